"""Bytes -> Jobs, by content type first and by the bytes where there is none. Pure.

*Corruption.* Our msgpack and packed bodies end, or begin, with a CRC-32. Truncated: always refused. One byte changed:
always refused. More: refused but for 1 in 2^32, unless the changes also destroy the checksum's own marker and leave a
complete, well-typed document. The JSON forms are kept exactly as the report has them, so that old readers can read
them, and carry no checksum: truncated, retyped, renamed, doubled and unknown fields are refused, another letter inside
a value looks like data.

*The report's form and everything else.* `forms` says which documents are jobs in the report's form; they are read
strictly. Any other document becomes the payload of a Job without an id, as it came.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.headers import JOB_JSON, JSON, MSGPACK, PACKED, content_kind
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire.compression import plain_body
from rabbitray.actors.message.wire.counting import names_each_once
from rabbitray.actors.message.wire.documents import parse, unpack
from rabbitray.actors.message.wire.encode import is_intact
from rabbitray.actors.message.wire.forms import MessageFormat, Source, read_form, read_marked, read_report, source_of
from rabbitray.actors.message.wire.limits import DEFAULT_LIMITS, MessageLimits
from rabbitray.actors.message.wire.packed import split_records, unpack_records
from rabbitray.actors.message.wire.shapes import CHECKSUM, read_compact
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
    message_format: MessageFormat = "auto",
    stamped: bool = False,
) -> list[Job]:
    """Return the jobs of one message: one, or several for a packed one.

    Raises DecodeError, with a short stable reason, for anything that cannot be read, and nothing else ever. A
    document that is not surely in the report's form becomes the payload of a Job without an id; `text/*` becomes
    text, `application/octet-stream` bytes. Without a content type the bytes must be msgpack or JSON.

    `message_format`: what producers send without our mark; `stamped`: the message has the header that our publisher
    writes, see `forms`.
    """
    source = source_of(content_type, message_format, stamped=stamped)
    try:
        return _decode(body, content_kind(content_type), content_encoding, limits, codes, source)
    except DecodeError:
        raise
    except (RecursionError, MemoryError) as error:
        raise DecodeError("too_deep" if isinstance(error, RecursionError) else "too_large", repr(error)) from None
    except Exception as error:  # the promise of this door: a reader never meets anything else
        raise DecodeError("unreadable", f"{type(error).__name__}: {error}"[:200]) from error


def split(body: bytes, content_encoding: str | None = None, limits: MessageLimits = DEFAULT_LIMITS) -> list[bytes]:
    """Return each record of a packed message as the body of a message of its own, of the content type `JOB_MSGPACK`.

    The record's bytes are taken as they are: whatever was read from the packed message is read from its piece too,
    also what our own writer would refuse. Raises DecodeError as `decode` does; meant for what `decode` has read.
    """
    return split_records(plain_body(body, content_encoding, limits), limits)


def parse_line(line: str | bytes, *, codes: TypeCodes = REPORT_CODES) -> Job:
    """Return the job of one JSON line in either of the report's forms; it gets a new id if it has none.

    Raises DecodeError for anything else, documents of other shapes included.
    """
    raw = line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line
    job = decode(raw.strip(), JOB_JSON, None, codes=codes)[0]
    if job.id is not None:
        return job
    fields = {name: value for name, value in msgspec.structs.asdict(job).items() if name != "id"}
    return Job(**fields)


def _decode(
    body: bytes, kind: str, content_encoding: str | None, limits: MessageLimits, codes: TypeCodes, source: Source
) -> list[Job]:
    body = plain_body(body, content_encoding, limits)
    if kind in _MSGPACK_TYPES:
        return [_read_msgpack(body, limits, codes, source)]
    if kind == PACKED:
        return unpack_records(body, limits, codes)
    if kind in _JSON_TYPES or kind.endswith("+json"):
        return [_read_json(body, limits, codes, source)]
    return [_read_other(body, kind, limits, codes, source)]


def _read_other(body: bytes, kind: str, limits: MessageLimits, codes: TypeCodes, source: Source) -> Job:
    if kind in _BYTES_TYPES:
        return Job(id=None, payload=bytes(body))
    if kind.startswith("text/"):
        return Job(id=None, payload=_text(body))
    if kind:
        raise DecodeError("unsupported_content_type", kind[:100])
    read = _read_msgpack if body and (0x80 <= body[0] <= 0x8F or body[0] in (0xDE, 0xDF)) else _read_json
    try:
        return read(body, limits, codes, source)
    except DecodeError as error:
        if error.reason not in ("bad_json", "bad_msgpack", "empty"):
            raise
        raise DecodeError("unknown_format", "no content type, and neither msgpack nor JSON") from None


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError("bad_text", str(error)[:200]) from None


def _read_msgpack(body: bytes, limits: MessageLimits, codes: TypeCodes, source: Source) -> Job:
    """A body with our checksum is ours; where nothing else says so, one with a wrong checksum is a stranger's."""
    intact = None if source == "plain" else is_intact(body)
    if intact is False and source != "auto":
        raise DecodeError("bad_checksum", "the body was changed on its way")
    document = unpack(body, limits)
    if intact:
        if type(document) is not dict or document.pop(CHECKSUM, None) is None:
            raise DecodeError("bad_checksum", "the checksum is not where it belongs")
        return read_compact(document, codes)
    return _unchecked(document, codes, source) or Job(id=None, payload=document)


def _unchecked(document: Any, codes: TypeCodes, source: Source) -> Job | None:  # Any: whatever a producer wrote
    """The job of a msgpack document without a checksum. One with our publisher's header has lost it on its way."""
    if source == "marked":
        return read_marked(document, codes)
    if type(document) is not dict:
        return None
    if source == "report":
        return read_report(document, codes)
    return read_compact(document, codes) if source == "stamped" and "i" in document and "t" in document else None


def _read_json(body: bytes, limits: MessageLimits, codes: TypeCodes, source: Source) -> Job:
    body = body.removeprefix(_BOM)
    document = parse(body, limits)
    job = read_form(document, source, codes)
    if job is None:
        return Job(id=None, payload=document)
    if not names_each_once(body, document):  # the last one would win in silence
        raise DecodeError("duplicate_field", "a field is there twice")
    return job
