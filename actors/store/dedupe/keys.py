"""(queue, key) as one text and as a stable 64-bit hash, for whole columns at once. Pure.

The text is `<bytes of queue>:<queue>:<key>`, so no two pairs share one. The hash is ours (multiply and
xor-shift with the finaliser of MurmurHash3), because it is stored in the file: it may not change with a
library or a process. A collision costs a comparison of the texts, never exactness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

U64 = npt.NDArray[np.uint64]

_LONG = 512  # texts above are hashed by blake2b first: padding all rows to one of them would cost memory
_SEED, _MUL, _FINAL = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53))
_FEW = 4  # rows up to which Python is quicker than Arrow
_ALL_BITS = (1 << 64) - 1
_S29, _S32, _S33 = (np.uint64(n) for n in (29, 32, 33))


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """`texts[i]` is None for a row without a key; `hashes` then holds 0.

    `tags`: hash of message_type and user_id, xor the payload's hash where there is one, to notice that two messages
    share a key and are not the same.
    """

    texts: pa.Array
    hashes: U64
    tags: U64

    def take(self, rows: npt.NDArray[np.int64]) -> Identities:
        """The identities of these rows, in this order."""
        return Identities(texts=self.texts.take(pa.array(rows)), hashes=self.hashes[rows], tags=self.tags[rows])


def identities(table: pa.Table) -> Identities:
    """Identities of a table with the columns queue, key, message_type, user_id, payload_hash."""
    if table.num_rows <= _FEW:
        return _few(table)
    texts = _joined(table["queue"], table["key"])
    return Identities(texts=texts, hashes=hash_texts(texts), tags=_tags(table))


def differing(table: pa.Table, ids: Identities, rows: Sequence[int], winners: Sequence[int]) -> list[int]:
    """Those of `rows`, duplicates in `table`, that are another message than the one that won; `winners`: its tags.

    A winner of an earlier version has no hash of its payload: then type and user decide.
    """
    others = [(row, winner) for row, winner in zip(rows, winners, strict=True) if winner != int(ids.tags[row])]
    if not others:
        return []
    kinds = _kinds(table.take(pa.array([row for row, _ in others]))).tolist()
    return [row for (row, winner), kind in zip(others, kinds, strict=True) if winner != kind]


def identities_of(queue: str, keys: list[str]) -> Identities:
    """Identities of some keys of one queue, for a look-up; their tags are 0."""
    texts = _joined(pa.chunked_array([[queue] * len(keys)], pa.string()), pa.chunked_array([keys], pa.string()))
    return Identities(texts=texts, hashes=hash_texts(texts), tags=np.zeros(len(keys), np.uint64))


def hash_texts(texts: pa.Array) -> U64:
    """One 64-bit hash for each text; 0 for null. Same text, same hash, on every machine and in every
    version.
    """
    filled = pc.fill_null(texts, "").cast(pa.binary())
    lengths = np.asarray(pc.binary_length(filled)).astype(np.uint64)
    if len(lengths) and int(lengths.max()) > _LONG:
        filled, lengths = _shorten(filled)
    hashes = _mix(_words(filled, lengths), lengths)
    hashes[np.asarray(pc.is_null(texts))] = 0
    return hashes


def _tags(table: pa.Table) -> U64:
    return _kinds(table) ^ np.asarray(pc.fill_null(table["payload_hash"], 0)).astype(np.uint64, copy=False)


def _kinds(table: pa.Table) -> U64:
    """The tags of rows without a hash of their payload, as earlier versions wrote them."""
    return hash_texts(_joined(pc.fill_null(table["message_type"], ""), pc.fill_null(table["user_id"], "")))


def _few(table: pa.Table) -> Identities:
    """As `identities`, row by row: for a single row a tenth of the time of a dozen calls into Arrow (0.5 ms)."""
    columns = (table[name].to_pylist() for name in ("queue", "key", "message_type", "user_id", "payload_hash"))
    rows = list(zip(*columns, strict=True))
    texts = [None if queue is None or key is None else _text(queue, key) for queue, key, *_ in rows]
    tags = [_hash(_text(kind or "", user or "").encode()) ^ (hashed or 0) for *_, kind, user, hashed in rows]
    return Identities(
        texts=pa.array(texts, pa.string()),
        hashes=np.array([0 if text is None else _hash(text.encode()) for text in texts], np.uint64),
        tags=np.array(tags, np.uint64),
    )


def _text(left: str, right: str) -> str:
    return f"{len(left.encode())}:{left}:{right}"


def _hash(text: bytes) -> int:
    """As `hash_texts`, for one text."""
    if len(text) > _LONG:
        text = _digest(text)
    value = len(text) * int(_SEED) & _ALL_BITS
    for at in range(0, len(text), 8):
        value = (value ^ int.from_bytes(text[at : at + 8], "little")) * int(_MUL) & _ALL_BITS
        value ^= value >> 32
    value = (value ^ value >> 33) * int(_FINAL) & _ALL_BITS
    return value ^ value >> 29


def _joined(left: pa.ChunkedArray, right: pa.ChunkedArray) -> pa.Array:
    size = pc.cast(pc.binary_length(left), pa.string())
    joined = pc.binary_join_element_wise(size, left, right, ":")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def _shorten(filled: pa.Array) -> tuple[pa.Array, U64]:
    raw = [text if len(text) <= _LONG else _digest(text) for text in filled.to_pylist()]
    short = pa.array(raw, pa.binary())
    return short, np.asarray(pc.binary_length(short)).astype(np.uint64)


def _digest(text: bytes) -> bytes:
    return b"long:" + blake2b(text).digest()


def _words(filled: pa.Array, lengths: U64) -> U64:
    """The bytes of each text as little-endian 64-bit words, padded with zeros: shape (rows, words)."""
    count = len(lengths)
    words = -(-int(lengths.max(initial=0)) // 8)
    grid = np.zeros((count, words * 8), np.uint8)
    data = filled.buffers()[2]
    if data is not None and words:
        offsets = np.frombuffer(filled.buffers()[1], np.int32)[filled.offset : filled.offset + count + 1]
        used = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
        grid[np.arange(words * 8) < lengths[:, None]] = used
    return grid.view("<u8")


def _mix(words: U64, lengths: U64) -> U64:
    hashes = lengths * _SEED
    shortest = int(lengths.min()) if len(lengths) else 0
    for column in range(words.shape[1]):
        mixed = (hashes ^ words[:, column]) * _MUL
        mixed ^= mixed >> _S32
        # A text that ends before this word must not see the padding: how wide it is depends on its neighbours.
        hashes = mixed if shortest > column * 8 else np.where(lengths > np.uint64(column * 8), mixed, hashes)
    hashes ^= hashes >> _S33
    hashes *= _FINAL
    hashes ^= hashes >> _S29
    return hashes
