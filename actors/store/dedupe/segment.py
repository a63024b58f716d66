"""A sealed segment: the identities of one range of rows, sorted by hash, in a side file that is
memory-mapped.

Its pages belong to the page cache, so it costs no memory that the kernel cannot take back. A segment file
is only a copy: one that is missing or does not match the table is made again from the table.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rabbitray.actors.store.dedupe.keys import U64, Identities

_META = b"rabbitray"


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
    table = pa.table({"hash": segment.hashes, "tag": segment.tags, "text": segment.texts})
    table = table.replace_schema_metadata({_META: json.dumps(asdict(segment.head))})
    draft = path.with_suffix(".part")
    with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(1, table.num_rows))
    flush_to_disk(draft)
    os.replace(draft, path)


def read_segment(path: Path) -> Segment | None:
    """The segment in this file, mapped and not read; None when there is none or it cannot be read."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        head = SegmentHead(**json.loads(table.schema.metadata[_META]))
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None
    table = table.combine_chunks() if table["hash"].num_chunks > 1 else table
    text = table["text"].chunk(0) if table.num_rows else pa.array([], pa.string())
    hashes, tags = (np.asarray(table[name].to_numpy()) for name in ("hash", "tag"))
    return Segment(head=head, hashes=hashes, tags=tags, texts=text)


def flush_to_disk(path: Path) -> None:
    """fsync one file; raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
