"""Dedupe as a rule: whatever is written, sealed, saved and restarted, it answers as a dict of first winners would."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.dedupe.bloom import SlicedBloom
from rabbitray.actors.store.dedupe.index import Dedupe
from rabbitray.actors.store.dedupe.keys import hash_texts, identities
from rabbitray.actors.store.store import Store
from tests.kit.store_rows import rows_of, sql_in_a_process

KEYS = st.one_of(st.none(), st.sampled_from([f"k{n}" for n in range(30)]), st.text(max_size=12))
BATCHES = st.lists(st.lists(KEYS, max_size=12), max_size=25)
QUEUES = st.sampled_from(["jobs", "mail"])


class Model:
    """The meaning of dedupe."""

    def __init__(self) -> None:
        self.known: set[tuple[str, str]] = set()

    def duplicates(self, queue: str, keys: list[str | None]) -> tuple[int, ...]:
        found = []
        for index, key in enumerate(keys):
            if key is not None and (queue, key) in self.known:
                found.append(index)
            elif key is not None:
                self.known.add((queue, key))
        return tuple(found)


@given(batches=st.lists(st.tuples(QUEUES, st.lists(KEYS, max_size=12)), max_size=40), size=st.integers(1, 5))
def test_dedupe_is_a_dict_of_first_winners(batches: list[tuple[str, list[str | None]]], size: int) -> None:
    """More rows than the capacity of 64 segments for the small sizes: slots are used again."""
    dedupe = Dedupe(capacity=64 * size, store_id="s", directory=None)
    model = Model()
    for queue, keys in batches:
        ids = identities(rows_of(keys, queue=queue))
        verdict = dedupe.sort(ids)
        assert verdict.duplicates == model.duplicates(queue, keys)
        dedupe.add(ids.take(verdict.fresh))


def test_far_beyond_the_capacity_nothing_is_forgotten_and_memory_stays() -> None:
    dedupe = Dedupe(capacity=640, store_id="s", directory=None)
    plane = dedupe.bloom.plane.nbytes
    for start in range(0, 6_400, 100):
        dedupe.add(identities(rows_of([f"k{n}" for n in range(start, start + 100)])))
    verdict = dedupe.sort(identities(rows_of([f"k{n}" for n in range(6_500)])))
    assert verdict.duplicates == tuple(range(6_400))
    assert dedupe.bloom.plane.nbytes == plane


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(KEYS, max_size=12)),
        st.just(("restart", [])),
        st.just(("lose-segments", [])),
        st.just(("lose-filter", [])),
        st.just(("crash", [])),
    ),
    max_size=12,
)


@pytest.mark.slow
@given(steps=STEPS, size=st.integers(1, 4))
@settings(max_examples=12)
def test_any_history_of_writes_restarts_and_lost_side_files(
    steps: list[tuple[str, list[str | None]]], size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_replay(Path(folder), steps, size))


async def _replay(folder: Path, steps: list[tuple[str, list[str | None]]], size: int) -> None:
    config = StoreConfig(path=folder / "r.duckdb", dedupe_capacity=64 * size)
    model = Model()
    store = Store(config)
    await store.open()
    epoch = await store.register("a")
    for step, keys in steps:
        if step == "write":
            assert (await store.write(epoch, rows_of(keys))).duplicates == model.duplicates("jobs", keys)
            continue
        await store.close()
        _lose(config.side_dir, step)
        store = Store(config)
        await store.open()
    answer = await store.write(epoch, rows_of(sorted(key for _, key in model.known)))
    await store.close()
    assert answer.committed == 0


def _lose(side: Path, step: str) -> None:
    """`crash`: the filter is as old as the first segment that a crash could have left."""
    if step == "lose-segments":
        shutil.rmtree(side)
    elif step == "lose-filter":
        (side / "filter.npz").unlink(missing_ok=True)
    elif step == "crash":
        for path in sorted(side.glob("segment-*"))[1:]:
            path.unlink()


@pytest.mark.parametrize("damage", ["filter", "segment", "foreign"])
async def test_damaged_or_foreign_side_files_only_cost_time(tmp_path: Path, damage: str) -> None:
    config = StoreConfig(path=tmp_path / "r.duckdb", dedupe_capacity=64 * 3)
    store = Store(config)
    await store.open()
    epoch = await store.register("a")
    keys = [f"k{n}" for n in range(20)]
    await store.write(epoch, rows_of(keys))
    await store.close()
    if damage == "filter":
        (config.side_dir / "filter.npz").write_bytes(b"torn")
    elif damage == "segment":
        next(iter(config.side_dir.glob("segment-*"))).write_bytes(b"torn")
    else:
        config = await _another_file_with_these_side_files(config, tmp_path / "new.duckdb")
        keys = ["k0", "other"]
    store = Store(config)
    await store.open()
    epoch = await store.register("b")
    assert (await store.write(epoch, rows_of(keys))).duplicates == (() if damage == "foreign" else tuple(range(20)))
    await store.close()


async def _another_file_with_these_side_files(config: StoreConfig, path: Path) -> StoreConfig:
    other = StoreConfig(path=path, dedupe_capacity=config.dedupe_capacity)
    shutil.copytree(config.side_dir, other.side_dir)
    return other


async def test_rows_deleted_by_the_user_are_forgotten_and_the_others_are_not(tmp_path: Path) -> None:
    config = StoreConfig(path=tmp_path / "r.duckdb", dedupe_capacity=64 * 4)
    store = Store(config)
    await store.open()
    epoch = await store.register("a")
    await store.write(epoch, rows_of([f"k{n}" for n in range(19)]))
    await store.close()
    sql_in_a_process(config.path, "DELETE FROM results WHERE seq IN (1, 2, 9, 17)")
    store = Store(config)
    await store.open()
    answer = await store.write(epoch, rows_of([f"k{n}" for n in range(19)]))
    await store.close()
    assert [n for n in range(19) if n not in answer.duplicates] == [1, 2, 9, 17]


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, 0), ("", 0), ("a", None), ("é日本", None), ("x" * 511, None), ("x" * 5_000, None)],
    ids=["null", "empty", "short", "unicode", "padded", "long"],
)
def test_the_hash_of_a_text_does_not_depend_on_its_neighbours(text: str | None, expected: int | None) -> None:
    alone = hash_texts(pa.array([text], pa.string()))[0]
    among = hash_texts(pa.array(["y" * 700, text, "", None, "z"], pa.string()))[1]
    sliced = hash_texts(pa.array(["q", text, "w"], pa.string()).slice(1, 1))[0]
    assert alone == among == sliced
    assert expected is None or alone == expected


def test_the_hash_is_stored_in_files_so_it_may_never_change() -> None:
    found = hash_texts(pa.array(["4:jobs:k1", "4:jobs:2892faa5-21c5-42b6-8389-a7a26f20a1f3", "x" * 600]))
    assert found.tolist() == [10827432478463413923, 1688757546581009187, 6812551598821529858]


TEXTS = st.none() | st.text(max_size=20) | st.sampled_from(["é" * 256, "x" * 600])
HASHED = st.none() | st.integers(0, 2**64 - 1)


@given(
    rows=st.lists(st.tuples(QUEUES, TEXTS, TEXTS, TEXTS, HASHED), max_size=4),
    more=st.tuples(st.just("q"), st.just("k"), st.none(), st.none(), HASHED),
)
def test_a_few_rows_have_the_identities_that_they_have_among_many(
    rows: list[tuple[str | int | None, ...]], more: tuple[str | int | None, ...]
) -> None:
    few, many = identities(table_of(rows)), identities(table_of(rows + [more] * 5))
    assert few.texts.to_pylist() == many.texts.to_pylist()[: len(rows)]
    assert few.hashes.tolist() == many.hashes.tolist()[: len(rows)]
    assert few.tags.tolist() == many.tags.tolist()[: len(rows)]


def table_of(rows: list[tuple[str | int | None, ...]]) -> pa.Table:
    columns = ["queue", "key", "message_type", "user_id", "payload_hash"]
    schema = pa.schema([(name, pa.uint64() if name == "payload_hash" else pa.string()) for name in columns])
    return pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], schema)


def test_hashes_spread() -> None:
    hashes = hash_texts(pa.array([f"4:jobs:{n}" for n in range(200_000)]))
    assert len(np.unique(hashes)) == 200_000
    for part in (hashes & np.uint64(0xFFFF), hashes >> np.uint64(48)):
        assert np.bincount(part.astype(np.int64), minlength=65_536).max() < 25


@given(known=st.sets(st.integers(0, 2**64 - 1), max_size=50), slot=st.integers(0, 63))
def test_the_filter_never_forgets(known: set[int], slot: int) -> None:
    bloom = SlicedBloom(50)
    hashes = np.array(sorted(known), np.uint64)
    bloom.add(hashes, slot)
    rows, masks = bloom.slots(hashes)
    assert rows.tolist() == list(range(len(known)))
    assert all(int(mask) >> slot & 1 for mask in masks)
