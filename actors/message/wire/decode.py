"""Bytes -> Jobs, by content type first and by the bytes where there is none. Pure.

*Corruption.* Our msgpack and packed bodies end, or begin, with a CRC-32. Truncated: always refused. One byte changed:
always refused. More: refused but for 1 in 2^32, unless the changes also destroy the checksum's own marker and leave a
complete, well-typed document. The JSON forms are kept exactly as the report has them, so that old readers can read
them, and carry no checksum: truncated, retyped, renamed, doubled and unknown fields are refused, another letter inside
a value looks like data.

*The report's form and everything else.* `forms` says which documents are jobs in the report's form; they are read
strictly. Any other document becomes the payload of a Job without an id, as it came. So do bodies that no reader here
knows: as bytes.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.headers import JOB_JSON, JSON, MSGPACK, PACKED, content_kind
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire.amqp_value import is_section, section_body
from rabbitray.actors.message.wire.codings import charset_of, text_in
from rabbitray.actors.message.wire.compression import plain_body
from rabbitray.actors.message.wire.counting import names_each_once
from rabbitray.actors.message.wire.documents import parse, unpack
from rabbitray.actors.message.wire.encode import is_intact
from rabbitray.actors.message.wire.forms import MessageFormat, Source, read_form, read_marked, read_report, source_of
from rabbitray.actors.message.wire.limits import DEFAULT_LIMITS, MessageLimits, raise_unreadable
from rabbitray.actors.message.wire.packed import split_records, unpack_records
from rabbitray.actors.message.wire.shapes import CHECKSUM, read_compact
from rabbitray.actors.message.wire.type_codes import REPORT_CODES, TypeCodes

MSGPACK_TYPES: Final = frozenset((MSGPACK, "application/x-msgpack", "application/vnd.msgpack"))
JSON_TYPES: Final = frozenset((JSON, "text/json", "application/x-json"))
_BYTES_TYPES: Final = frozenset(("application/octet-stream", "application/data"))
PICKLE_TYPES: Final = frozenset(
    ("application/x-python-serialize", "application/x-python-pickle", "application/x-pickle", "application/pickle")
)
"""What kombu and others call a pickle; opening one runs whatever its writer wanted."""

UnknownContentType = Literal["bytes", "reject"]
"""What becomes of a message whose content type has no reader here: its body as it is, or a dead letter."""

_OF_SECTIONS: Final = frozenset(("bad_json", "bad_msgpack", "bad_text", "unknown_format"))
"""What a section of AMQP 1.0 is to a reader of another format."""

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
    unknown: UnknownContentType = "bytes",
) -> list[Job]:
    """Return the jobs of one message: one, or several for a packed one.

    Raises DecodeError, with a short stable reason, for anything that cannot be read, and nothing else ever. A
    document that is not surely in the report's form becomes the payload of a Job without an id; `text/*` becomes
    text, `application/octet-stream` bytes. Without a content type the bytes are read as msgpack or JSON where they
    are that. Whatever else it is becomes bytes, or, with `unknown="reject"`, DecodeError.

    `message_format`: what producers send without our mark; `stamped`: the message has the header that our publisher
    writes, see `forms`.
    """
    source = source_of(content_type, message_format, stamped=stamped)
    kind = content_kind(content_type)
    try:
        try:
            return _decode(body, kind, content_type, content_encoding, limits, codes, source, unknown)
        except DecodeError as error:
            if error.reason not in _OF_SECTIONS or source == "marked" or kind == PACKED or not is_section(body):
                raise
        return [_read_section(body, kind, limits, codes, source, unknown)]
    except DecodeError:
        raise
    except Exception as error:  # noqa: BLE001 # the promise of this door: a reader never meets anything else
        raise_unreadable(error)


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
    body: bytes,
    kind: str,
    content_type: str | None,
    content_encoding: str | None,
    limits: MessageLimits,
    codes: TypeCodes,
    source: Source,
    unknown: UnknownContentType,
) -> list[Job]:
    body = plain_body(body, content_encoding, limits)
    if kind in MSGPACK_TYPES:
        return [_read_msgpack(body, limits, codes, source)]
    if kind == PACKED:
        return unpack_records(body, limits, codes)
    if kind in JSON_TYPES or kind.endswith("+json"):
        if content_encoding or ";" in content_type:  # type: ignore[operator] # there is one: it has a kind
            body = _in_utf8(body, content_type or "", content_encoding)
        return [_read_json(body, limits, codes, source)]
    if kind.startswith("text/"):
        return [_own(_text(body, content_type or "", content_encoding))]
    if kind:
        return [_own(_bytes(body, kind, unknown))]
    return [_read_untyped(body, limits, codes, source, unknown)]


def _own(payload: Any) -> Job:  # Any: whatever a producer wrote
    """The job of a producer's own message."""
    return Job(id=None, payload=payload)


def _in_utf8(body: bytes, content_type: str, content_encoding: str | None) -> bytes:
    charset = charset_of(content_type, content_encoding)
    return body if charset is None else text_in(body, charset).encode("utf-8", "surrogatepass")


def _text(body: bytes, content_type: str, content_encoding: str | None) -> str:
    if is_section(body):  # such bytes may be UTF-8, too
        raise DecodeError("bad_text", "a section of AMQP 1.0")
    return text_in(body, charset_of(content_type, content_encoding))


def _bytes(body: bytes, kind: str, unknown: UnknownContentType) -> bytes:
    """The body as it is, of a content type that means bytes, or that has no reader here."""
    if kind in PICKLE_TYPES:
        raise DecodeError("pickle_refused", f"{kind}: nothing is ever unpickled here")
    if kind not in _BYTES_TYPES and unknown == "reject":
        raise DecodeError("unsupported_content_type", kind[:100])
    return bytes(body)


def _read_untyped(
    body: bytes, limits: MessageLimits, codes: TypeCodes, source: Source, unknown: UnknownContentType
) -> Job:
    """A body without a content type: msgpack or JSON where it is that, else bytes: nothing says that it is damaged."""
    read = _read_msgpack if body and (0x80 <= body[0] <= 0x8F or body[0] in (0xDE, 0xDF)) else _read_json
    try:
        return read(body, limits, codes, source)
    except DecodeError as error:
        if error.reason not in ("bad_json", "bad_msgpack", "empty"):
            raise
    if unknown == "reject" or is_section(body):
        raise DecodeError("unknown_format", "no content type, and neither msgpack nor JSON")
    return _own(bytes(body))


def _read_section(
    body: bytes, kind: str, limits: MessageLimits, codes: TypeCodes, source: Source, unknown: UnknownContentType
) -> Job:
    """The job of a body that RabbitMQ hands over as an AMQP 1.0 client encoded it: the text or bytes in it.

    Both are read by their content type; without one, what is no document stays the text or the bytes that it is.
    """
    value = section_body(body)
    if isinstance(value, bytes):
        return _decode(value, kind, kind, None, limits, codes, source, unknown)[0]
    if not kind or kind in JSON_TYPES or kind.endswith("+json"):
        try:
            return _read_json(value.encode(), limits, codes, source)
        except DecodeError as error:
            if kind or error.reason != "bad_json":
                raise
    return _own(value)


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
