"""Packed messages: many records in one body, `[CRC-32, record, record, ...]` in msgpack. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from actors.errors import DecodeError, EncodeError
from actors.headers import PACKED
from actors.job import Job
from actors.wire.codes import REPORT_CODES, TypeCodes
from actors.wire.limits import DEFAULT_LIMITS, WireLimits
from actors.wire.shapes import COMPACT, is_shape, read_compact
from actors.wire.unpacking import unpack
from actors.wire.writing import encode_record

_UINT32: Final = 0xCE
_ARRAY16: Final = 0xDC
_ARRAY32: Final = 0xDD
_CHECKSUM_BYTES: Final = 5


def pack(jobs: Iterable[Job], *, codes: TypeCodes = REPORT_CODES) -> tuple[bytes, str]:
    """Return one body for many jobs and its content type; each job keeps its own id.

    Raises EncodeError for no job at all, and as `encode` does. Readers take at most `WireLimits.max_records`.
    """
    return join_records([encode_record(job, codes) for job in jobs]), PACKED


def join_records(records: Sequence[bytes]) -> bytes:
    """Return the packed body of records that `encode_record` made."""
    if not 0 < len(records) < 0xFFFF:
        raise EncodeError(f"a packed message holds 1 to {0xFFFE} records, not {len(records)}")
    content = b"".join(records)
    count = (len(records) + 1).to_bytes(2, "big")
    return b"".join((b"\xdc", count, b"\xce", zlib.crc32(content).to_bytes(4, "big"), content))


def count_records(body: bytes, content_type: str | None, limits: WireLimits = DEFAULT_LIMITS) -> int:
    """Return how many records a message claims to hold, from its first bytes; 1 for any other message.

    For bounding work before anything is decoded: clamped to 1 .. `max_records`, and to what the bytes could
    hold. A compressed packed body shows nothing; its header `x-rabbitray-records` does.
    """
    if content_type is None or not content_type.lower().startswith(PACKED):
        return 1
    claimed, start = _array_head(body)
    if start < len(body) and body[start] == _UINT32:
        claimed -= 1
    return max(1, min(claimed, limits.max_records, len(body)))


def unpack_records(body: bytes, limits: WireLimits, codes: TypeCodes) -> list[Job]:
    """Return the jobs of a packed body; DecodeError where any of its bytes is not as it must be."""
    claimed, start = _array_head(body)
    has_checksum = start < len(body) and body[start] == _UINT32
    count = claimed - has_checksum
    if not 0 < count <= limits.max_records:
        raise DecodeError("too_many_records" if count > 0 else "empty", f"{count} records")
    if has_checksum:
        _require_checksum(body, start)
    document = unpack(body, limits)
    return [_record(entry, codes) for entry in document[has_checksum:]]


def _record(entry: Any, codes: TypeCodes) -> Job:  # Any: whatever a producer wrote
    if type(entry) is not dict or not is_shape(entry, COMPACT):
        raise DecodeError("bad_record", "a record is a map of the compact fields")
    return read_compact(entry, codes)


def _require_checksum(body: bytes, start: int) -> None:
    content = memoryview(body)[start + _CHECKSUM_BYTES :]
    if zlib.crc32(content) != int.from_bytes(body[start + 1 : start + _CHECKSUM_BYTES], "big"):
        raise DecodeError("bad_checksum", "the packed body was changed on its way")


def _array_head(body: bytes) -> tuple[int, int]:
    """Return how many elements the msgpack list claims and where the first one starts; (0, 0) for no list."""
    first = body[0] if body else 0
    if 0x90 <= first <= 0x9F:
        return first & 0x0F, 1
    if first == _ARRAY16:
        return int.from_bytes(body[1:3], "big"), 3
    if first == _ARRAY32:
        return int.from_bytes(body[1:5], "big"), 5
    return 0, 0
