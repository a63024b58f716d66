"""json, msgpack, text, bytes: one format for every message, whatever its content type says. Pure."""

from __future__ import annotations

from typing import Any, Final

from rabbitray.actors.message.message import Message
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.message.wire.codings import charset_of, text_in
from rabbitray.actors.message.wire.documents import parse, unpack

_BOM: Final = b"\xef\xbb\xbf"


def read_json(body: bytes, message: Message, limits: MessageLimits) -> Any:  # Any: whatever a producer wrote
    """The document, in UTF-8 or the charset that the message names."""
    charset = charset_of(message.content_type or "", message.content_encoding)
    if charset is not None:
        body = text_in(body, charset).encode("utf-8", "surrogatepass")
    return parse(body.removeprefix(_BOM), limits)


def read_msgpack(body: bytes, message: Message, limits: MessageLimits) -> Any:  # Any: whatever a producer wrote
    """The document."""
    return unpack(body, limits)


def read_text(body: bytes, message: Message, limits: MessageLimits) -> str:
    """The text, in UTF-8 or the charset that the message names."""
    return text_in(body, charset_of(message.content_type or "", message.content_encoding))


def read_bytes(body: bytes, message: Message, limits: MessageLimits) -> bytes:
    """The body."""
    return body
