"""A sealed segment: the identities of one range of rows, sorted by hash, in a side file that is
memory-mapped.

Its pages belong to the page cache, so it costs no memory that the kernel cannot take back. A segment file
is only a copy: one that is missing, damaged or does not match the table is made again from the table. A checksum
over all that it says finds the damage; reading it costs 0.02 s for a million rows.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rabbitray.actors.store.dedupe.keys import U64, Identities, hash_texts

_META = b"rabbitray"
_CHECK = b"rabbitray.crc32"
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
        at = np.searchsorted(self.hashes, wanted)
        inside = at < len(self.hashes)
        same = np.zeros(len(rows), bool)
        same[inside] = self.hashes[at[inside]] == wanted[inside]
        found = []
        for row, place in zip(rows[same].tolist(), at[same].tolist(), strict=True):
            tag = self._tag(ids.texts[row].as_py(), ids.hashes[row], place)
            if tag is not None:
                found.append((row, tag))
        return found

    def _tag(self, text: str, hash_: np.uint64, place: int) -> int | None:
        while place < len(self.hashes) and self.hashes[place] == hash_:
            if self.texts[place].as_py() == text:
                return int(self.tags[place])
            place += 1
        return None


def seal(store_id: str, first: int, rows: int, ids: Identities) -> Segment:
    """Sort the identities of a range; rows without a key are left out."""
    keyed = np.flatnonzero(np.asarray(ids.texts.is_valid()))
    order = keyed[np.argsort(ids.hashes[keyed])]
    taken = ids.take(order)
    head = SegmentHead(store_id=store_id, first=first, rows=rows, keys=len(order), xor=xor_of(taken.hashes))
    return Segment(head=head, hashes=taken.hashes, tags=taken.tags, texts=taken.texts)


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
    return segment if good else None


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
    in_order = bool(np.all(hashes[:-1] <= hashes[1:])) and xor_of(hashes) == segment.head.xor
    return in_order and np.array_equal(hash_texts(segment.texts), hashes)


def flush_to_disk(path: Path) -> None:
    """fsync one file; raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
