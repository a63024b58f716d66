"""What a payload says as one number, by which the store tells another one under a known key from the same. Pure."""

from __future__ import annotations

from typing import Any, Final
from zlib import crc32

import msgpack
import msgspec

_LENGTH_BITS: Final = 32


def payload_hash(payload: Any, body: bytes) -> int:  # Any: whatever a producer wrote
    """Length and CRC-32 of a payload, as 64 bits; to be asked before a handler can change it.

    It counts as it was decoded: the order of its fields, content type and compression change nothing, and neither do
    the times that a producer writes beside it. What msgspec cannot write (whole numbers of more than 64 bits, keys that
    are bytes) counts by `body`, the message as it came. Of two payloads that nobody chose one in 2^32 has the hash of
    the other; whoever knows a payload beforehand can make another one with its hash. (SHA-256 would prevent that, and
    cost packed and large messages 7 % of their speed, for a number that decides nothing.)
    """
    try:
        said = _encode(payload)
    except (TypeError, ValueError, OverflowError, NotImplementedError):
        said = body
    return (len(said) & 0xFFFF_FFFF) << _LENGTH_BITS | crc32(said)


def _plain(value: Any) -> bytes:  # Any: a value that msgpack has and msgspec has not
    if isinstance(value, msgpack.Timestamp):
        plain: bytes = value.to_bytes()
        return plain
    raise NotImplementedError(type(value).__name__)


_encode = msgspec.msgpack.Encoder(enc_hook=_plain, order="deterministic").encode
