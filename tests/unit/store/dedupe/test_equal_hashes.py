"""Any number of keys with one hash: found exactly, in steps that grow as the logarithm of their number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.dedupe.index import Dedupe
from rabbitray.actors.store.dedupe.keys import Identities, identities, identities_of
from rabbitray.actors.store.dedupe.segment import Segment, read_segment, seal, write_segment
from rabbitray.actors.store.known import winners_of
from rabbitray.actors.store.store import Store
from tests.kit.equal_hashes import keys_of_one_hash
from tests.kit.store_rows import rows_of


class Counted:
    """Texts that count how often one of them is looked at."""

    def __init__(self, texts: pa.Array) -> None:
        self._texts = texts
        self.looked = 0

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, place: int) -> pa.Scalar:
        self.looked += 1
        return self._texts[place]


def looks(segment: Segment, ids: Identities) -> tuple[float, int]:
    """How many texts a look-up of one key looks at, and how many of the keys are found."""
    counted = Counted(segment.texts)
    found = replace(segment, texts=counted).find(ids, np.arange(len(ids.hashes)))
    return counted.looked / len(ids.hashes), len(found)


@pytest.mark.parametrize("count", [500, 8_000])
def test_a_search_among_equal_hashes_takes_its_logarithm(count: int) -> None:
    keys = keys_of_one_hash(count + 200)
    known, strange = keys[:count], keys[count:]
    segment = seal("s", 0, count, identities_of("jobs", known))
    most = np.log2(count) + 3
    for asked, expected in ((known[:200], 200), (strange, 0)):
        each, found = looks(segment, identities_of("jobs", asked))
        assert found == expected
        assert each <= most


def test_keys_of_different_hashes_cost_one_look_each() -> None:
    keys = [f"k{number}" for number in range(1_000)]
    assert looks(seal("s", 0, 1_000, identities_of("jobs", keys)), identities_of("jobs", keys)) == (1, 1_000)


SAME = keys_of_one_hash(60)
KEYS = st.lists(st.sampled_from([*SAME, *(f"k{number}" for number in range(20))]), max_size=12)


@given(batches=st.lists(KEYS, max_size=30), size=st.integers(1, 9))
def test_equal_hashes_change_no_answer(batches: list[list[str]], size: int) -> None:
    dedupe, known = Dedupe(capacity=64 * size, store_id="s", directory=None), set[str]()
    for keys in batches:
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        ids = identities(rows_of(keys))
        verdict = dedupe.sort(ids)
        assert verdict.duplicates == tuple(n for n, key in enumerate(keys) if key in known or first[key] != n)
        dedupe.add(ids.take(verdict.fresh))
        known.update(keys)
    assert dedupe.known(identities_of("jobs", SAME)) == [key in known for key in SAME]
    assert asyncio.run(winners_of(dedupe, "jobs", SAME, at_once)).keys() == {
        row for row, key in enumerate(SAME) if key in known
    }


async def at_once(work: Callable[[], dict[int, int]]) -> dict[int, int]:
    return work()


def as_earlier(segment: Segment) -> Segment:
    """As versions before this one wrote it: equal hashes in the order of their rows, or any."""
    upside_down = np.arange(len(segment.hashes))[::-1]
    ids = Identities(texts=segment.texts, hashes=segment.hashes, tags=segment.tags).take(upside_down)
    order = np.argsort(ids.hashes, kind="stable")
    ids = ids.take(order)
    return replace(segment, hashes=ids.hashes, tags=ids.tags, texts=ids.texts)


def test_a_side_file_with_equal_hashes_out_of_order_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "segment-000000.arrow"
    segment = seal("s", 0, 60, identities_of("jobs", SAME))
    write_segment(as_earlier(segment), path)
    assert read_segment(path) is None
    write_segment(segment, path)
    assert read_segment(path) is not None
    write_segment(as_earlier(seal("s", 0, 3, identities_of("jobs", ["a", "b", "c"]))), path)
    assert read_segment(path) is not None, "without equal hashes it is of use as it is"


@pytest.fixture
async def attacked(tmp_path: Path) -> StoreConfig:
    """A results file with three sealed segments of equal hashes, whose side files an earlier version wrote."""
    config = StoreConfig(path=tmp_path / "r.duckdb", dedupe_capacity=64 * 20)
    await written(config, SAME)
    for path in segments_of(config):
        sealed = read_segment(path)
        assert sealed is not None
        write_segment(as_earlier(sealed), path)
        assert read_segment(path) is None
    return config


def segments_of(config: StoreConfig) -> Iterator[Path]:
    return config.side_dir.glob("segment-*")


async def written(config: StoreConfig, keys: list[str]) -> int:
    """How many rows a store that is opened now commits for these keys."""
    store = Store(config)
    await store.open()
    answer = await store.write(await store.register("a"), rows_of(keys))
    await store.close()
    return answer.committed


async def test_side_files_of_an_earlier_version_are_made_again_where_hashes_are_equal(attacked: StoreConfig) -> None:
    assert await written(attacked, [*SAME, "one more"]) == 1
    assert all(read_segment(path) is not None for path in segments_of(attacked))


@pytest.mark.parametrize("rows", [1, 2])
def test_rows_that_have_one_key_twice_are_found_as_their_first(rows: int) -> None:
    """A results file that was written without dedupe holds them."""
    table = pa.concat_tables([rows_of(SAME[:10] * rows), rows_of(SAME[:10], user_id="another")]).combine_chunks()
    ids = identities(table)
    found = seal("s", 0, len(ids.hashes), ids).find(ids, np.arange(10))
    assert found == [(row, int(ids.tags[row])) for row in range(10)]
