"""What a job says as 64 bits, by which the store tells another one under a known key from the same one. Pure."""

from __future__ import annotations

from typing import Any, Final
from zlib import crc32

import msgpack
import msgspec

from rabbitray.actors.message.job import Job

_LENGTH_BITS: Final = 32


def payload_hash(job: Job, text: bytes | None = None) -> int:
    """Length and CRC-32 of what a job says, as 64 bits; to be asked before a handler can change it.

    `text`: the message's body where that is JSON. It counts as it came, unless a producer wrote a time beside the
    payload, since a second one with another time says the same. Every other payload counts as msgpack has it, a record
    of a packed message like the same one alone. The same payload in another form (JSON, msgpack, compressed JSON) is
    another one.

    Of two that nobody chose one in 2^32 has the hash of the other; whoever knows one beforehand can make another one
    with its hash. (SHA-256 of each payload would prevent that, and cost large messages 10 % of their speed, for a
    number that decides nothing.)
    """
    timed = job.timestamp_ms is not None or job.scheduled_at is not None
    return body_hash(_encoded(job.payload) if text is None or timed else text)


def body_hash(said: bytes) -> int:
    """The same of bytes: of a body that a decoder reads, whose payload may be any object."""
    return (len(said) & 0xFFFF_FFFF) << _LENGTH_BITS | crc32(said)


def _encoded(payload: Any) -> bytes:  # Any: whatever a producer wrote
    """msgspec has no form for keys that are bytes, neither has msgpack for numbers of more than 64 bits."""
    for encode in (_encode, msgpack.packb):
        try:
            encoded: bytes = encode(payload)
        except (TypeError, ValueError, OverflowError, NotImplementedError):
            continue
        return encoded
    return repr(payload).encode("utf-8", "backslashreplace")


def _plain(value: Any) -> bytes:  # Any: a value that msgpack has and msgspec has not
    if isinstance(value, msgpack.Timestamp):
        plain: bytes = value.to_bytes()
        return plain
    raise NotImplementedError(type(value).__name__)


_encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode
