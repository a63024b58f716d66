"""CloudEvents 1.0: in one document (structured), or with their attributes in headers (binary). Pure.

Either gives one shape: a map of the attributes by name, and `data`. `source` and `id` together are what tells two
events apart (CloudEvents 1.0, 3.1), so both are in the key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.formats.decoded import Decoded
from rabbitray.actors.message.formats.fields import Document, require_map, require_text, text, time
from rabbitray.actors.message.headers import MAX_TEXT, content_kind
from rabbitray.actors.message.message import Message
from rabbitray.actors.message.wire import MessageLimits, decode
from rabbitray.actors.message.wire.codings import charset_of, text_in
from rabbitray.actors.message.wire.documents import parse

STRUCTURED: Final = "application/cloudevents+json"
_PREFIXES: Final = ("cloudEvents:", "cloudEvents_", "ce-", "ce_")
"""Of headers: the two of the AMQP binding, and HTTP's, which bridges leave as it is."""


def read_event(body: bytes, message: Message, limits: MessageLimits) -> Decoded:
    """The event in a message, whichever mode it is in."""
    kind = content_kind(message.content_type)
    if kind.startswith("application/cloudevents"):
        return read_structured(body, message, limits)
    return _read_binary(body, message, limits)


def read_structured(body: bytes, message: Message, limits: MessageLimits) -> Decoded:
    """The event in a JSON document."""
    kind = content_kind(message.content_type)
    if kind != STRUCTURED:
        raise DecodeError("unsupported_content_type", f"{kind[:100]}: of CloudEvents' forms {STRUCTURED} is read")
    charset = charset_of(message.content_type or "", message.content_encoding)
    plain = body if charset is None else text_in(body, charset).encode("utf-8", "surrogatepass")
    event = dict(require_map(parse(plain, limits), "an event"))
    if "data_base64" in event:
        event["data"] = _from_base64(event.pop("data_base64"))
    return _decoded(event)


def _read_binary(body: bytes, message: Message, limits: MessageLimits) -> Decoded:
    event = _attributes(message.headers)
    if "specversion" not in event:
        raise DecodeError("no_cloudevent", f"neither {STRUCTURED} nor headers of an event ({_PREFIXES[0]}specversion)")
    if message.content_type is not None:
        event["datacontenttype"] = message.content_type
    if body:
        [job] = decode(body, message.content_type, None, limits, message_format="plain")
        event["data"] = job.payload
    return _decoded(event)


def _attributes(headers: Mapping[str, Any]) -> dict[str, Any]:  # Any: AMQP header values
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in headers.items()
        for prefix in _PREFIXES
        if name.startswith(prefix)
    }


def _decoded(event: dict[str, Any]) -> Decoded:  # Any: JSON values
    """Raises DecodeError where an attribute is missing that each event has."""
    require_text(event.get("specversion"), "specversion")
    moment = time(event.get("time"), "time", utc=False)
    return Decoded(
        payload=event,
        key=_key(event),
        message_type=require_text(event.get("type"), "type"),
        timestamp_ms=None if moment is None else _ms(moment),
    )


def _key(event: Document) -> str:
    """`source` and `id`; a source has no blanks, being a URI."""
    key = f"{require_text(event.get('source'), 'source')} {require_text(event.get('id'), 'id')}"
    raw = key.encode("utf-8", "replace")
    return key if len(raw) <= MAX_TEXT else hashlib.blake2b(raw, digest_size=16).hexdigest()


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000)


def _from_base64(value: Any) -> bytes:  # Any: whatever a producer wrote
    try:
        return base64.b64decode(text(value, "data_base64") or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise DecodeError("bad_field", f"data_base64: {error}"[:200]) from None
