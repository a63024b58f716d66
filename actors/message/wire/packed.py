"""Packed messages: many records in one body, `[CRC-32, record, record, ...]` in msgpack. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

import msgpack

from rabbitray.actors.errors import DecodeError, EncodeError
from rabbitray.actors.message.headers import PACKED, content_kind
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire.compression import first_bytes
from rabbitray.actors.message.wire.documents import unpack
from rabbitray.actors.message.wire.encode import checked, encode_record
from rabbitray.actors.message.wire.limits import DEFAULT_LIMITS, MessageLimits
from rabbitray.actors.message.wire.shapes import COMPACT, is_shape, read_compact
from rabbitray.actors.message.wire.type_codes import REPORT_CODES, TypeCodes

_UINT32: Final = 0xCE
_ARRAY16: Final = 0xDC
_ARRAY32: Final = 0xDD
_CHECKSUM_BYTES: Final = 5
_MAP16: Final = 0xDE
_MOST_CHECKED: Final = 14  # entries of a small msgpack map, less the one that the checksum takes

MOST_RECORDS: Final = 0xFFFE
"""Records that one packed message can hold: its list counts in 16 bits, the checksum included."""


def is_packed_type(content_type: str | None) -> bool:
    """Whether `decode` reads a message of this content type as a packed one; costs nothing for the others."""
    if content_type is None or len(content_type) < len(PACKED):
        return False
    return content_type == PACKED or content_kind(content_type) == PACKED


def pack(jobs: Iterable[Job], *, codes: TypeCodes = REPORT_CODES) -> tuple[bytes, str]:
    """Return one body for many jobs and its content type; each job keeps its own id.

    Raises EncodeError for no job at all, and as `encode` does. Readers take at most `MessageLimits.max_records`.
    """
    return join_records([encode_record(job, codes) for job in jobs]), PACKED


def join_records(records: Sequence[bytes]) -> bytes:
    """Return the packed body of records that `encode_record` made."""
    if not 0 < len(records) <= MOST_RECORDS:
        raise EncodeError(f"a packed message holds 1 to {MOST_RECORDS} records, not {len(records)}")
    content = b"".join(records)
    count = (len(records) + 1).to_bytes(2, "big")
    return b"".join((b"\xdc", count, b"\xce", zlib.crc32(content).to_bytes(4, "big"), content))


def count_records(
    body: bytes,
    content_type: str | None,
    content_encoding: str | None = None,
    *,
    max_records: int = DEFAULT_LIMITS.max_records,
) -> int:
    """Return how many records a message claims to hold, from its first bytes; 1 for any other message.

    For bounding work before anything is decoded: clamped to 1 .. `max_records`, and to what the bytes could
    hold. A body with fewer or more records than it claims is refused when it is decoded, so the claim is the
    most that it can cost.
    """
    if not is_packed_type(content_type):
        return 1
    first = first_bytes(body, content_encoding)
    if first is None:
        return max_records
    claimed, start = _array_head(first)
    if start < len(first) and first[start] == _UINT32:
        claimed -= 1
    return max(1, min(claimed, max_records, len(body) if first is body else claimed))


def unpack_records(body: bytes, limits: MessageLimits, codes: TypeCodes) -> list[Job]:
    """Return the jobs of a packed body; DecodeError where any of its bytes is not as it must be."""
    count, _ = _require_list(body, limits)
    document = unpack(body, limits)
    return [_record(entry, codes) for entry in document[len(document) - count :]]


def split_records(body: bytes, limits: MessageLimits) -> list[bytes]:
    """Return the records of a packed body, each as a msgpack body of its own; DecodeError where it cannot be cut.

    Nothing of them is built: it takes the time of passing over the body once, and a copy of it.
    """
    count, start = _require_list(body, limits)
    reader = msgpack.Unpacker(max_buffer_size=len(body))
    reader.feed(body)
    try:
        claimed = reader.read_array_header()
        if claimed > count:
            start = _end_of_next(reader)
        cuts = [start, *(_end_of_next(reader) for _ in range(count))]
    except (msgpack.UnpackException, ValueError, TypeError) as error:
        raise DecodeError("bad_msgpack", f"{type(error).__name__}: {error}"[:200]) from None
    return [_alone(body[begin:end]) for begin, end in pairwise(cuts)]


def _end_of_next(reader: msgpack.Unpacker) -> int:
    reader.skip()
    position: int = reader.tell()
    return position


def _alone(record: bytes) -> bytes:
    """Return the msgpack map with a checksum; one with too many entries for that as it is."""
    first = record[0]
    if first & 0xF0 == 0x80:
        count, start = first & 0x0F, 1
    elif first == _MAP16:
        count, start = int.from_bytes(record[1:3], "big"), 3
    else:
        count, start = 0xFFFF, 0
    return checked(bytes((0x80 | count,)) + record[start:]) if count <= _MOST_CHECKED else record


def _record(entry: Any, codes: TypeCodes) -> Job:  # Any: whatever a producer wrote
    if type(entry) is not dict or not is_shape(entry, COMPACT):
        raise DecodeError("bad_record", "a record is a map of the compact fields")
    return read_compact(entry, codes)


def _require_list(body: bytes, limits: MessageLimits) -> tuple[int, int]:
    """Return how many records the list claims to hold, and where its first element starts, which may be a checksum.

    DecodeError where those are none or too many, or where the checksum is not that of the records.
    """
    claimed, start = _array_head(body)
    has_checksum = start < len(body) and body[start] == _UINT32
    count = claimed - has_checksum
    if not 0 < count <= limits.max_records:
        raise DecodeError("too_many_records" if count > 0 else "empty", f"{count} records")
    if has_checksum:
        _require_checksum(body, start)
    return count, start


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
