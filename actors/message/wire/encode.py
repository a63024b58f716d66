"""Job -> bytes in one of three forms. Pure."""

from __future__ import annotations

import zlib
from typing import Final, Literal, assert_never

import msgpack
import msgspec

from rabbitray.actors.errors import EncodeError
from rabbitray.actors.message.headers import JOB_JSON, JOB_MSGPACK
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire.limits import DEFAULT_LIMITS, require_writable
from rabbitray.actors.message.wire.shapes import Document, compact, compact_text, verbose
from rabbitray.actors.message.wire.type_codes import REPORT_CODES, TypeCodes

Form = Literal["msgpack", "compact_json", "verbose_json"]

CHECKSUM_MARK: Final = b"\xa0\xc4\x04"
"""The empty key and msgpack's tag of 4 bytes; they are the CRC-32 of all bytes before the mark, and end the body."""

_MARK_START: Final = -len(CHECKSUM_MARK) - 4
_ONE_MORE: Final = [bytes([0x80 | n + 1]) for n in range(15)]  # heads of a msgpack map with room for the checksum
_COUNT: Final = 0x0F

_PAYLOAD_DEPTH: Final = DEFAULT_LIMITS.max_depth - 2  # the document itself, and the list of a packed message


def encode(job: Job, *, form: Form = "msgpack", codes: TypeCodes = REPORT_CODES) -> tuple[bytes, str]:
    """Return the body of one job and its content type, which has our mark.

    `msgpack`: one-letter keys and a CRC-32, 50 bytes for the report's entry. `compact_json` and
    `verbose_json`: the report's documents (3.1), for readers that know no other. `key` and `attempt` travel
    in headers, not here. Raises EncodeError where the payload has no such form or would not come back as it
    is.
    """
    match form:
        case "msgpack":
            return checked(encode_record(job, codes)), JOB_MSGPACK
        case "compact_json":
            return _json(compact_text(job, codes)), JOB_JSON
        case "verbose_json":
            return _json(verbose(job)), JOB_JSON
        case _:
            assert_never(form)


def encode_record(job: Job, codes: TypeCodes = REPORT_CODES) -> bytes:
    """Return one job as a msgpack map without a checksum, as it stands in a packed message."""
    if job.payload is not None:
        require_writable(job.payload, json=False, depth=_PAYLOAD_DEPTH)
    try:
        # Any: msgpack has no type stubs
        record: bytes = msgpack.packb(compact(job, codes))
    except (ValueError, OverflowError, TypeError) as error:
        raise EncodeError(f"job {job.id!r} has no msgpack form: {error}") from error
    return record


def checked(record: bytes) -> bytes:
    """Return a msgpack map with a last entry added: `""`, the CRC-32 of all before it."""
    head = _ONE_MORE[record[0] & _COUNT] + record[1:]
    return head + CHECKSUM_MARK + zlib.crc32(head).to_bytes(4, "big")


def is_intact(body: bytes) -> bool | None:
    """Whether a body is what `checked` made it; None for one without a checksum."""
    if body[_MARK_START:-4] != CHECKSUM_MARK:
        return None
    return zlib.crc32(memoryview(body)[:_MARK_START]) == int.from_bytes(body[-4:], "big")


def _json(doc: Document) -> bytes:
    payload = doc.get("p", doc.get("payload"))
    if payload is not None:
        require_writable(payload, json=True, depth=_PAYLOAD_DEPTH)
    try:
        return msgspec.json.encode(doc)
    except (ValueError, TypeError, OverflowError) as error:
        raise EncodeError(f"the job has no JSON form: {error}") from error
