"""A sealed segment: the identities of one range of rows, sorted by hash and then by text, in a side file that is
memory-mapped.

Its pages belong to the page cache, so it costs no memory that the kernel cannot take back. A segment file
is only a copy: one that is missing, damaged or does not match the table is made again from the table. A checksum
over all that it says finds the damage; reading it costs 0.02 s for a million rows.

The hash is no secret, so whoever may publish can make any number of keys with one hash. They cost a search among them,
not a walk.
"""

from __future__ import annotations

import json
import os
import zlib
from bisect import bisect_left
from dataclasses import asdict, dataclass
from operator import methodcaller
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rabbitray.actors.store.dedupe.keys import U64, Identities, hash_texts

_META = b"rabbitray"
_CHECK = b"rabbitray.crc32"
_BY_BOTH = [("hash", "ascending"), ("text", "ascending")]
_SCHEMA = pa.schema([("hash", pa.uint64()), ("tag", pa.uint64()), ("text", pa.string())])


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHead:
    """What a segment covers: `rows` sequence numbers from `first` on; `keys` of them have a key, xor of
    their hashes.
    """

    store_id: str
    first: int
    rows: int
    keys: int
    xor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Look-ups by hash, then by the text itself: exact."""

    head: SegmentHead
    hashes: U64
    tags: U64
    texts: pa.Array

    def find(self, ids: Identities, rows: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
        """(row, tag of the winner) for those of `rows` whose text is in this segment."""
        wanted = ids.hashes[rows]
        first = np.searchsorted(self.hashes, wanted)
        inside = first < len(self.hashes)
        same = np.zeros(len(rows), bool)
        same[inside] = self.hashes[first[inside]] == wanted[inside]
        end = np.searchsorted(self.hashes, wanted[same], side="right")
        found = []
        for row, low, high in zip(rows[same].tolist(), first[same].tolist(), end.tolist(), strict=True):
            place = self._place(ids.texts[row].as_py(), low, high)
            if place is not None:
                found.append((row, int(self.tags[place])))
        return found

    def _place(self, text: str, low: int, high: int) -> int | None:
        """Where the text is among those with its hash, the rows [low, high)."""
        if high - low > 1:
            low = bisect_left(self.texts, text, low, high - 1, key=methodcaller("as_py"))
        return low if self.texts[low].as_py() == text else None


def seal(store_id: str, first: int, rows: int, ids: Identities) -> Segment:
    """Sort the identities of a range; rows without a key are left out. Of equal texts the earlier row stays first."""
    keyed = np.flatnonzero(np.asarray(ids.texts.is_valid()))
    order = keyed[np.argsort(ids.hashes[keyed], kind="stable")]
    taken = ids.take(order)
    if len(_not_above_the_last(taken.hashes)):
        by_both = pc.sort_indices(pa.table([taken.hashes, taken.texts], ["hash", "text"]), sort_keys=_BY_BOTH)
        taken = taken.take(by_both.to_numpy())
    head = SegmentHead(store_id=store_id, first=first, rows=rows, keys=len(order), xor=xor_of(taken.hashes))
    return Segment(head=head, hashes=taken.hashes, tags=taken.tags, texts=taken.texts)


def _not_above_the_last(hashes: U64) -> npt.NDArray[np.int64]:
    """Rows whose hash is not above that of the row before."""
    return np.flatnonzero(hashes[1:] <= hashes[:-1]) + 1


def xor_of(hashes: U64) -> int:
    """The xor of all hashes: what `bit_xor` gives over the same rows of the table."""
    return int(np.bitwise_xor.reduce(hashes)) if len(hashes) else 0


def write_segment(segment: Segment, path: Path) -> None:
    """Write by a temporary file, flush to disk and rename, so that a file with this name is whole; raises
    OSError.
    """
    meta = json.dumps(asdict(segment.head)).encode()
    table = pa.table([segment.hashes, segment.tags, segment.texts], _SCHEMA)
    table = table.replace_schema_metadata({_META: meta, _CHECK: str(_checksum(meta, segment))})
    draft = path.with_suffix(".part")
    with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(1, table.num_rows))
    flush_to_disk(draft)
    os.replace(draft, path)


def read_segment(path: Path) -> Segment | None:
    """The segment in this file, mapped; None when there is none, it cannot be read, or it is not what was written."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        return _whole(table)
    except (OSError, pa.ArrowException, LookupError, TypeError, ValueError):  # the last three: of what is damaged
        return None


def _whole(table: pa.Table) -> Segment | None:
    """The segment in this table, whose buffers are not to be trusted; None when it is damaged."""
    meta = table.schema.metadata[_META]
    head = SegmentHead(**json.loads(meta))
    columns = [column.combine_chunks() if column.num_chunks != 1 else column.chunk(0) for column in table.columns]
    if not table.schema.equals(_SCHEMA) or table.num_rows != head.keys or any(column.null_count for column in columns):
        return None
    hashes, tags = (column.to_numpy() for column in columns[:2])
    segment = Segment(head=head, hashes=hashes, tags=tags, texts=columns[2])
    check = table.schema.metadata.get(_CHECK)
    good = _agrees_with_itself(segment) if check is None else int(check) == _checksum(meta, segment)
    return segment if good and _can_be_searched(segment) else None


def _can_be_searched(segment: Segment) -> bool:
    """Whether it is in order; one of an earlier version has equal hashes in any order of their texts."""
    later = _not_above_the_last(segment.hashes)
    if not len(later):
        return True
    if np.any(segment.hashes[later] < segment.hashes[later - 1]):
        return False
    before, after = (segment.texts.take(pa.array(rows)) for rows in (later - 1, later))
    return bool(pc.all(pc.less_equal(before, after)).as_py())


def _checksum(meta: bytes, segment: Segment) -> int:
    """Over the head and each byte that a look-up may read."""
    crc = zlib.crc32(segment.tags.data, zlib.crc32(segment.hashes.data, zlib.crc32(meta)))
    _, offsets, data = segment.texts.buffers()
    if not len(segment.texts):
        return crc
    at = np.frombuffer(offsets, np.int32)[segment.texts.offset :][: len(segment.texts) + 1]
    return zlib.crc32(memoryview(data)[at[0] : at[-1]], zlib.crc32(at.data, crc))


def _agrees_with_itself(segment: Segment) -> bool:
    """For a file without a checksum, from before there was one; takes ten times as long."""
    segment.texts.validate(full=True)
    hashes = segment.hashes
    return xor_of(hashes) == segment.head.xor and np.array_equal(hash_texts(segment.texts), hashes)


def flush_to_disk(path: Path) -> None:
    """fsync one file; raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
