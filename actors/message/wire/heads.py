"""The fields of a job without its payload, for the router: it reads nothing that is not in one of our own forms. Pure.

Whoever reads a stranger's body may be stopped or ended by it, and the router is one for all. A body is passed over
here in one go, in linear time and with nothing built of it: the payload is never looked into.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.headers import JSON, MSGPACK, content_kind
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire.encode import is_intact
from rabbitray.actors.message.wire.forms import MessageFormat, read_form, source_of
from rabbitray.actors.message.wire.shapes import CHECKSUM, COMPACT, VERBOSE, Document, read_compact
from rabbitray.actors.message.wire.type_codes import REPORT_CODES, TypeCodes

_COMPACT_START: Final = b'{"i":'
_VERBOSE_START: Final = b'{"messageId":'
_PAYLOADS: Final = ("p", "payload", "checksum")
_FIELD_MOST: Final = 2 * 1024
"""Bytes of one field: 255 letters are 1,530 where JSON escapes each."""


def _fields(shape: frozenset[str], **renamed: str) -> Any:  # Any: a type that is made here
    """A struct that passes over each field of a shape, and refuses any other."""
    names = [(name, msgspec.Raw, msgspec.Raw()) for name in (*sorted(shape), *renamed)]
    return msgspec.defstruct("Fields", names, forbid_unknown_fields=True, rename=renamed, gc=False)


_MSGPACK: Final = msgspec.msgpack.Decoder(_fields(COMPACT, checksum=CHECKSUM))
_COMPACT_JSON: Final = msgspec.json.Decoder(_fields(COMPACT))
_VERBOSE_JSON: Final = msgspec.json.Decoder(_fields(VERBOSE))


def read_head(
    body: bytes,
    content_type: str | None,
    content_encoding: str | None,
    *,
    codes: TypeCodes = REPORT_CODES,
    message_format: MessageFormat = "auto",
    stamped: bool = False,
) -> Job:
    """Return the job of a message as `encode` writes it, with no payload, where `decode` takes it for one.

    Raises DecodeError, `not_ours`, for every other body, and as `decode` does where a field is none of a job's.
    """
    kind = content_kind(content_type)
    source = source_of(content_type, message_format, stamped=stamped)
    if source != "plain" and not content_encoding:
        if kind in ("", MSGPACK) and is_intact(body):
            return read_record_head(body, codes=codes)
        fields = _fields_of(body) if kind in ("", JSON) else None
        job = None if fields is None else read_form(_document(fields, msgspec.json.decode, body), source, codes)
        if job is not None:
            return job
    raise DecodeError("not_ours", "in none of the forms that are written here")


def _fields_of(body: bytes) -> Any:  # Any: a decoder
    """The decoder of the form that a JSON body begins as `encode` writes it; None for no such body."""
    if body.startswith(_COMPACT_START):
        return _COMPACT_JSON
    return _VERBOSE_JSON if body.startswith(_VERBOSE_START) else None


def read_record_head(body: bytes, *, codes: TypeCodes = REPORT_CODES) -> Job:
    """Return the job of one record of a packed message, with no payload; DecodeError otherwise."""
    return read_compact(_document(_MSGPACK, msgspec.msgpack.decode, body), codes)


def _document(fields: Any, read: Any, body: bytes) -> Document:  # Any: decoders of either format
    """The fields of a body in one shape, less its payload."""
    try:
        found = fields.decode(body)
        raw = {name: getattr(found, name) for name in found.__struct_fields__ if name not in _PAYLOADS}
        return {name: read(_small(name, value)) for name, value in raw.items() if value}
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DecodeError("not_ours", f"{type(error).__name__}: {error}"[:200]) from None


def _small(name: str, value: msgspec.Raw) -> msgspec.Raw:
    size = memoryview(value).nbytes
    if size > _FIELD_MOST:
        raise DecodeError("bad_field", f"{name}: {size} bytes")
    return value
