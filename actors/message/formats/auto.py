"""A message read by its content type: our own forms and `wire`'s, and the formats of others that a type names. Pure."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.formats.cbor import CBOR, read_cbor
from rabbitray.actors.message.formats.cloudevents import STRUCTURED, read_structured
from rabbitray.actors.message.formats.decoded import job_of
from rabbitray.actors.message.headers import content_kind
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.message import Message, message_of
from rabbitray.actors.message.parcel import Parcel
from rabbitray.actors.message.wire import MessageFormat, MessageLimits, TypeCodes, UnknownContentType, decode
from rabbitray.actors.message.wire.compression import plain_body
from rabbitray.actors.message.wire.limits import raise_unreadable

Read = Callable[[bytes, Message, MessageLimits], Any]  # Any: a payload, or a Decoded
"""How one format is read: body (without its compression), message, limits. Raises DecodeError."""

_READ: Final[dict[str, Read]] = {CBOR: read_cbor, STRUCTURED: read_structured}


def read_by_type(
    parcel: Parcel, limits: MessageLimits, codes: TypeCodes, message_format: MessageFormat, unknown: UnknownContentType
) -> list[Job]:
    """The jobs of a message. Raises DecodeError, and nothing else ever."""
    read = _reader_of(parcel.content_type)
    if read is not None:
        body = plain_body(parcel.body, parcel.content_encoding, limits)
        return [job_of(read_as(read, body, bare_message(parcel), limits), datetime.now(UTC))]
    return decode(
        parcel.body,
        parcel.content_type,
        parcel.content_encoding,
        limits,
        codes=codes,
        message_format=message_format,
        stamped=parcel.stamped,
        unknown=unknown,
    )


@functools.lru_cache(maxsize=64)  # a queue has a few
def _reader_of(content_type: str) -> Read | None:
    return _READ.get(content_kind(content_type))


def read_as(read: Read, body: bytes, message: Message, limits: MessageLimits) -> Any:  # Any: as above
    """What a shipped format gives; it raises DecodeError, and nothing else ever."""
    try:
        return read(body, message, limits)
    except DecodeError:
        raise
    except Exception as error:  # noqa: BLE001 # the promise of this door: a reader never meets anything else
        raise_unreadable(error)


def whole_or_bare(parcel: Parcel) -> Message:
    """The message of a parcel, with all of its properties where these came with it."""
    if parcel.envelope is None:
        return bare_message(parcel)
    return message_of(parcel.envelope, parcel.body, parcel.received_ms)


def bare_message(parcel: Parcel) -> Message:
    """The message of a parcel, with what each parcel has of it."""
    return Message(
        body=parcel.body,
        content_type=parcel.content_type or None,
        content_encoding=parcel.content_encoding or None,
        message_id=parcel.message_id,
    )
