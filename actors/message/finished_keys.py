"""The question which keys have their result, and its answer, as they cross from a worker to the store and back. Pure.

The keys cross as they are: a hash of 64 bits is no proof that a job was done, and anybody can make keys of one hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec


class Question(msgspec.Struct, array_like=True, frozen=True):
    """Some keys of one queue."""

    queue: str
    keys: list[str]


NOTHING: Final = b""
"""The answer where no key has a result."""

_encode = msgspec.msgpack.Encoder().encode
_question = msgspec.msgpack.Decoder(Question)
_winners = msgspec.msgpack.Decoder(dict[int, int])


def encode_question(queue: str, keys: Sequence[str]) -> bytes:
    """The question as one buffer, about as long as the keys. Raises UnicodeEncodeError for a key that has no UTF-8."""
    return _encode((queue, keys))


def decode_question(buffer: bytes) -> Question:
    """The inverse of `encode_question`."""
    return _question.decode(buffer)


def encode_winners(winners: Mapping[int, int]) -> bytes:
    """The answer: for the index of each key that has its result, the tag of the row that has it (64 bits)."""
    return _encode(winners) if winners else NOTHING


def decode_winners(buffer: bytes) -> dict[int, int]:
    """The inverse of `encode_winners`."""
    return _winners.decode(buffer) if buffer else {}
