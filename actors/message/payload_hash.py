"""What a job says as 8 bytes, by which the store tells another payload under a known key from the same one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import msgpack
import msgspec
import pyarrow as pa

from rabbitray.actors.message.job import Job

HASH_BYTES: Final = 8


def payload_hash(job: Job, body: bytes) -> bytes:
    """The first 8 bytes of SHA-256 over message type, user and payload; to be asked before a handler can change them.

    The payload counts as it was decoded: the order of its fields, content type and compression change nothing, and
    neither do the times that a producer writes beside it. What msgspec cannot write (whole numbers of more than 64
    bits, keys that are bytes) counts by `body`, the message as it came. Whoever knows a payload beforehand needs 2^64
    tries to find another one with its hash.
    """
    try:
        said = _encoder.encode((job.message_type, job.user_id, job.payload))
    except (TypeError, ValueError, OverflowError, NotImplementedError):
        said = b"body" + body
    return sha256(said).digest()[:HASH_BYTES]


def as_column(hashes: Sequence[bytes]) -> pa.Array:
    """The hashes as `results.payload_hash` has them."""
    return pa.UInt64Array.from_buffers(pa.uint64(), len(hashes), [None, pa.py_buffer(b"".join(hashes))])


def _plain(value: Any) -> bytes:  # Any: a value that msgpack has and msgspec has not
    if isinstance(value, msgpack.Timestamp):
        plain: bytes = value.to_bytes()
        return plain
    raise NotImplementedError(type(value).__name__)


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain, order="deterministic")
