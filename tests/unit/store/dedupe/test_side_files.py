"""Side files of the dedupe are copies: whatever is done to them, the store knows each key that its table holds."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rabbitray.actors.errors import StoreOpenError
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.dedupe.index import Dedupe
from rabbitray.actors.store.dedupe.keys import identities
from rabbitray.actors.store.dedupe.restore import restore_filter, save_filter
from rabbitray.actors.store.dedupe.segment import Segment, read_segment, seal, write_segment
from rabbitray.actors.store.store import Store
from tests.kit.store_rows import rows_of

KEYS = [f"customer-{number}" for number in range(20)]


async def committed(config: StoreConfig, keys: list[str]) -> int:
    """How many rows a store that is opened now commits for these keys."""
    store = Store(config)
    await store.open()
    answer = await store.write(await store.register("a"), rows_of(keys))
    await store.close()
    return answer.committed


@pytest.fixture
async def config(tmp_path: Path) -> StoreConfig:
    """Four sealed segments of five rows."""
    made = StoreConfig(path=tmp_path / "r.duckdb", dedupe_capacity=64 * 5)
    assert await committed(made, KEYS) == 20
    return made


def segments_of(config: StoreConfig) -> list[Path]:
    return sorted(config.side_dir.glob("segment-*"))


def changed(whole: bytes, at: int, bits: int) -> bytes:
    return whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :]


def same(left: Segment, right: Segment) -> bool:
    arrays = np.array_equal(left.hashes, right.hashes) and np.array_equal(left.tags, right.tags)
    return arrays and left.head == right.head and left.texts.equals(right.texts)


async def test_a_known_key_stays_known_when_a_byte_of_it_changed_in_a_side_file(config: StoreConfig) -> None:
    for path in segments_of(config):
        whole = path.read_bytes()
        path.write_bytes(changed(whole, whole.index(b"customer-"), 1))
    assert await committed(config, KEYS) == 0
    assert all(b"4:jobs:customer-" in path.read_bytes() for path in segments_of(config)), "and they are made again"


@pytest.mark.parametrize("bits", [1, 0xFF])
def test_no_changed_byte_of_a_segment_goes_unseen(tmp_path: Path, bits: int) -> None:
    """Each byte: one that nobody reads may change, and then the segment is what was written."""
    segment = seal("s", 0, 4, identities(rows_of(["a", "bb", None, "ccc"])))
    path = tmp_path / "segment-000000.arrow"
    write_segment(segment, path)
    whole = path.read_bytes()
    refused = 0
    for at in range(len(whole)):
        path.write_bytes(changed(whole, at, bits))
        read = read_segment(path)
        assert read is None or same(read, segment), f"byte {at}"
        refused += read is None
    assert refused > 100
    path.write_bytes(whole)
    assert read_segment(path) is not None


def test_a_segment_of_which_any_byte_is_zero_is_refused_or_whole(tmp_path: Path) -> None:
    """Among them the length of a buffer, which then has none of the bytes that its column needs."""
    segment = seal("s", 0, 8, identities(rows_of([f"k{number}" for number in range(8)])))
    path = tmp_path / "segment-000000.arrow"
    write_segment(segment, path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(changed(whole, at, whole[at]))
        read = read_segment(path)
        assert read is None or same(read, segment), f"byte {at}"


def test_no_cut_segment_is_read(tmp_path: Path) -> None:
    path = tmp_path / "segment-000000.arrow"
    write_segment(seal("s", 0, 2, identities(rows_of(["a", "b"]))), path)
    whole = path.read_bytes()
    for torn in (*(whole[:size] for size in range(0, len(whole), 7)), whole[:300] + bytes(len(whole) - 300)):
        path.write_bytes(torn)
        assert read_segment(path) is None


def test_a_segment_from_before_there_were_checksums_is_used_unless_it_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "segment-000000.arrow"
    segment = seal("s", 0, 3, identities(rows_of(["customer-1", "customer-2", None])))
    write_segment(segment, path)
    _drop_checksum(path)
    read = read_segment(path)
    assert read is not None
    assert same(read, segment)
    whole = path.read_bytes()
    path.write_bytes(changed(whole, whole.index(b"customer-"), 1))
    assert read_segment(path) is None


def _drop_checksum(path: Path) -> None:
    table = pa.ipc.open_file(pa.OSFile(str(path))).read_all()
    kept = {key: value for key, value in table.schema.metadata.items() if key == b"rabbitray"}
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema.with_metadata(kept)) as writer:
        writer.write_table(table.replace_schema_metadata(kept))


def damages(whole: bytes) -> Iterator[bytes]:
    """An empty file, cut ones, zeros, and a change of each byte that is not one of the filter's many."""
    yield from (b"", whole[:100], whole[:-1], bytes(len(whole)))
    step = max(1, len(whole) // 3_000)
    for at in [*range(0, len(whole), step), *range(len(whole) - 1_000, len(whole))]:
        yield changed(whole, at, 0xFF)


def test_no_damaged_filter_is_believed_and_none_stops_the_start(tmp_path: Path) -> None:
    dedupe = Dedupe(capacity=64 * 2, store_id="s", directory=tmp_path)
    dedupe.add(identities(rows_of(["a", "b", "c", "d"])))
    save_filter(dedupe, "s", tmp_path)
    path = tmp_path / "filter.npz"
    for torn in damages(path.read_bytes()):
        path.write_bytes(torn)
        again = Dedupe(capacity=64 * 2, store_id="s", directory=None)
        if restore_filter(again, "s", tmp_path):
            assert np.array_equal(again.bloom.plane, dedupe.bloom.plane)
        else:
            assert not again.bloom.plane.any()


async def test_side_files_that_changed_places_or_are_older_only_cost_time(config: StoreConfig, tmp_path: Path) -> None:
    first, second, *_ = segments_of(config)
    older = tmp_path / "older"
    shutil.copytree(config.side_dir, older)
    swapped = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(swapped)
    assert await committed(config, [*KEYS, *(f"new-{number}" for number in range(20))]) == 20
    shutil.rmtree(config.side_dir)
    shutil.copytree(older, config.side_dir)
    assert await committed(config, KEYS) == 0


async def test_side_files_of_a_copy_that_went_its_own_way_only_cost_time(config: StoreConfig, tmp_path: Path) -> None:
    """Both have one store id."""
    copy = replace(config, path=tmp_path / "copy.duckdb")
    shutil.copy(config.path, copy.path)
    shutil.copytree(config.side_dir, copy.side_dir)
    mine, theirs = ([f"{name}-{number}" for number in range(10)] for name in ("mine", "theirs"))
    assert [await committed(config, mine), await committed(copy, theirs)] == [10, 10]
    shutil.rmtree(config.side_dir)
    shutil.copytree(copy.side_dir, config.side_dir)
    assert await committed(config, [*KEYS, *mine, *theirs]) == 10


async def test_a_damaged_side_file_is_no_witness_of_lost_rows(config: StoreConfig) -> None:
    """One that is whole is: its rows were acknowledged."""
    last = segments_of(config)[-1]
    whole = last.read_bytes()
    last.write_bytes(whole.replace(b'"first": 15', b'"first": 95'))
    assert await committed(config, KEYS) == 0
    segment = read_segment(last)
    assert segment is not None
    write_segment(replace(segment, head=replace(segment.head, first=95)), last.with_name("segment-000019.arrow"))
    with pytest.raises(StoreOpenError, match="100 rows were acknowledged"):
        await asyncio.create_task(committed(config, KEYS))
