"""(queue, key) as one text and as a stable 64-bit hash, for whole columns at once. Pure.

Text and hash are those of `actors/message/key_hash.py`. A collision costs a comparison of the texts, never exactness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rabbitray.actors.message.key_hash import FINAL, LONG, MUL, SEED, digest, kind_of, pair, prefix, text_hash

U64 = npt.NDArray[np.uint64]

_SEED, _MUL, _FINAL = (np.uint64(n) for n in (SEED, MUL, FINAL))
_FEW = 4  # rows up to which Python is quicker than Arrow
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


def texts_of(queue: str, keys: Sequence[str]) -> list[str]:
    """The texts of some keys of one queue."""
    begin = prefix(queue)
    return [begin + key for key in keys]


def identities_of(queue: str, keys: Sequence[str]) -> Identities:
    """Identities of some keys of one queue, for a look-up; their tags are 0."""
    return identities_of_texts(texts_of(queue, keys))


def identities_of_texts(texts: Sequence[str]) -> Identities:
    """As `identities_of`, of what `texts_of` made of the keys."""
    return Identities(texts=pa.array(texts, pa.string()), hashes=hashes_of(texts), tags=np.zeros(len(texts), np.uint64))


def hashes_of(texts: Sequence[str]) -> U64:
    """As `hash_texts`, of texts in Python: for those of one length, as ids are, in half of the time."""
    raw = [text.encode() for text in texts]
    if len(raw) <= _FEW:
        return np.array([text_hash(text) for text in raw], np.uint64)
    length = len(raw[0])
    if length > LONG or any(len(text) != length for text in raw):
        return hash_texts(pa.array(texts, pa.string()))
    grid = np.zeros((len(raw), -(-length // 8) * 8), np.uint8)
    grid[:, :length] = np.frombuffer(b"".join(raw), np.uint8).reshape(len(raw), length)
    return _mix(grid.view("<u8"), np.full(len(raw), length, np.uint64))


def hash_texts(texts: pa.Array) -> U64:
    """One 64-bit hash for each text; 0 for null. Same text, same hash, on every machine and in every
    version.
    """
    filled = pc.fill_null(texts, "").cast(pa.binary())
    lengths = np.asarray(pc.binary_length(filled)).astype(np.uint64)
    if len(lengths) and int(lengths.max()) > LONG:
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
    texts = [None if queue is None or key is None else pair(queue, key) for queue, key, *_ in rows]
    tags = [kind_of(kind, user) ^ (hashed or 0) for *_, kind, user, hashed in rows]
    return Identities(
        texts=pa.array(texts, pa.string()),
        hashes=np.array([0 if text is None else text_hash(text.encode()) for text in texts], np.uint64),
        tags=np.array(tags, np.uint64),
    )


def _joined(left: pa.ChunkedArray, right: pa.ChunkedArray) -> pa.Array:
    size = pc.cast(pc.binary_length(left), pa.string())
    joined = pc.binary_join_element_wise(size, left, right, ":")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def _shorten(filled: pa.Array) -> tuple[pa.Array, U64]:
    raw = [text if len(text) <= LONG else digest(text) for text in filled.to_pylist()]
    short = pa.array(raw, pa.binary())
    return short, np.asarray(pc.binary_length(short)).astype(np.uint64)


def _words(filled: pa.Array, lengths: U64) -> U64:
    """The bytes of each text as little-endian 64-bit words, padded with zeros: shape (rows, words)."""
    count = len(lengths)
    words = -(-int(lengths.max(initial=0)) // 8)
    grid = np.zeros((count, words * 8), np.uint8)
    data = filled.buffers()[2]
    if data is not None and words:
        offsets = np.frombuffer(filled.buffers()[1], np.int32)[filled.offset : filled.offset + count + 1]
        used = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
        length = int(lengths[0])
        if (lengths == length).all():  # ids of one kind, as a rule: a third of the time
            grid[:, :length] = used.reshape(count, length)
        else:
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
