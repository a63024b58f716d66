"""Bytes -> Jobs, by content type first and by the bytes where there is none. Pure.

*Corruption.* Our msgpack and packed bodies end, or begin, with a CRC-32. Truncated: always refused. One byte changed:
always refused. More: refused but for 1 in 2^32, unless the changes also destroy the checksum's own marker and leave a
complete, well-typed document. The JSON forms are kept exactly as the report has them, so that old readers can read
them, and carry no checksum: truncated, retyped, renamed, doubled and unknown fields are refused, another letter inside
a value looks like data.

*Two shapes and everything else.* A document is taken for one of the report's shapes when all of its fields, or at least
two, are fields of that shape; it is then read strictly. Any other document becomes the payload of a Job without an id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.headers import JSON, MSGPACK, PACKED, content_kind
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire.compression import plain_body
from rabbitray.actors.message.wire.counting import names_each_once
from rabbitray.actors.message.wire.documents import parse, unpack
from rabbitray.actors.message.wire.encode import is_intact
from rabbitray.actors.message.wire.limits import DEFAULT_LIMITS, MessageLimits
from rabbitray.actors.message.wire.packed import split_records, unpack_records
from rabbitray.actors.message.wire.shapes import CHECKSUM, COMPACT, VERBOSE, is_shape, read_compact, read_verbose
from rabbitray.actors.message.wire.type_codes import REPORT_CODES, TypeCodes

_MSGPACK_TYPES: Final = frozenset((MSGPACK, "application/x-msgpack", "application/vnd.msgpack"))
_JSON_TYPES: Final = frozenset((JSON, "text/json", "application/x-json"))
_BYTES_TYPES: Final = frozenset(("application/octet-stream", "application/data"))

_BOM: Final = b"\xef\xbb\xbf"


def decode(
    body: bytes,
    content_type: str | None,
    content_encoding: str | None = None,
    limits: MessageLimits = DEFAULT_LIMITS,
    *,
    codes: TypeCodes = REPORT_CODES,
) -> list[Job]:
    """Return the jobs of one message: one, or several for a packed one.

    Raises DecodeError, with a short stable reason, for anything that cannot be read, and nothing else ever. A
    document in neither of the report's shapes becomes the payload of a Job without an id; `text/*` becomes
    text, `application/octet-stream` bytes. Without a content type the bytes must be msgpack or JSON.
    """
    try:
        return _decode(body, content_kind(content_type), content_encoding, limits, codes)
    except DecodeError:
        raise
    except (RecursionError, MemoryError) as error:
        raise DecodeError("too_deep" if isinstance(error, RecursionError) else "too_large", repr(error)) from None
    except Exception as error:  # the promise of this door: a reader never meets anything else
        raise DecodeError("unreadable", f"{type(error).__name__}: {error}"[:200]) from error


def split(body: bytes, content_encoding: str | None = None, limits: MessageLimits = DEFAULT_LIMITS) -> list[bytes]:
    """Return each record of a packed message as the body of a message of its own, of the content type `MSGPACK`.

    The record's bytes are taken as they are: whatever was read from the packed message is read from its piece too,
    also what our own writer would refuse. Raises DecodeError as `decode` does; meant for what `decode` has read.
    """
    return split_records(plain_body(body, content_encoding, limits), limits)


def parse_line(line: str | bytes, *, codes: TypeCodes = REPORT_CODES) -> Job:
    """Return the job of one JSON line in either of the report's forms; it gets a new id if it has none.

    Raises DecodeError for anything else, documents of other shapes included.
    """
    raw = line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line
    raw = raw.strip().removeprefix(_BOM)
    job = decode(raw, JSON, None, codes=codes)[0]
    if job.id is not None:
        return job
    document = msgspec.json.decode(raw)
    if not isinstance(document, dict) or not (is_shape(document, COMPACT) or is_shape(document, VERBOSE)):
        raise DecodeError("unknown_shape", "neither the verbose nor the compact JSON form of a job")
    fields = {name: value for name, value in msgspec.structs.asdict(job).items() if name != "id"}
    return Job(**fields)


def _decode(body: bytes, kind: str, content_encoding: str | None, limits: MessageLimits, codes: TypeCodes) -> list[Job]:
    body = plain_body(body, content_encoding, limits)
    if kind in _MSGPACK_TYPES:
        return [_read_msgpack(body, limits, codes)]
    if kind == PACKED:
        return unpack_records(body, limits, codes)
    if kind in _JSON_TYPES or kind.endswith("+json"):
        return [_read_json(body, limits, codes)]
    return [_read_other(body, kind, limits, codes)]


def _read_other(body: bytes, kind: str, limits: MessageLimits, codes: TypeCodes) -> Job:
    if kind in _BYTES_TYPES:
        return Job(id=None, payload=bytes(body))
    if kind.startswith("text/"):
        return Job(id=None, payload=_text(body))
    if kind:
        raise DecodeError("unsupported_content_type", kind[:100])
    read = _read_msgpack if body and (0x80 <= body[0] <= 0x8F or body[0] in (0xDE, 0xDF)) else _read_json
    return _sniffed(read, body, limits, codes)


def _sniffed(
    read: Callable[[bytes, MessageLimits, TypeCodes], Job], body: bytes, limits: MessageLimits, codes: TypeCodes
) -> Job:
    try:
        return read(body, limits, codes)
    except DecodeError as error:
        if error.reason not in ("bad_json", "bad_msgpack", "empty"):
            raise
        raise DecodeError("unknown_format", "no content type, and neither msgpack nor JSON") from None


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError("bad_text", str(error)[:200]) from None


def _read_msgpack(body: bytes, limits: MessageLimits, codes: TypeCodes) -> Job:
    intact = is_intact(body)
    if intact is False:
        raise DecodeError("bad_checksum", "the body was changed on its way")
    document = unpack(body, limits)
    if intact and (type(document) is not dict or document.pop(CHECKSUM, None) is None):
        raise DecodeError("bad_checksum", "the checksum is not where it belongs")
    if intact:
        return read_compact(document, codes)
    return _read_document(document, codes)


def _read_json(body: bytes, limits: MessageLimits, codes: TypeCodes) -> Job:
    body = body.removeprefix(_BOM)
    document = parse(body, limits)
    job = _read_document(document, codes)
    if job.payload is not document and not names_each_once(body, document):  # the last one would win in silence
        raise DecodeError("duplicate_field", "a field is there twice")
    return job


def _read_document(document: Any, codes: TypeCodes) -> Job:  # Any: whatever a producer wrote
    """Return the job that a document is, in either shape, or else carries as its payload."""
    if type(document) is dict:
        if is_shape(document, COMPACT):
            return read_compact(document, codes)
        if is_shape(document, VERBOSE):
            return read_verbose(document)
    return Job(id=None, payload=document)
