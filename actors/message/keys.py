"""KeyRule: where the key of a message is, as the setting `key` says it: a header, a property or its body. Pure.

A key is text. A text is its own key, of a number it is the decimal text, of bytes that are printable UTF-8 that text,
of other bytes `0x` and their hexadecimal digits. Two values that have one text are one key: 1, 1.0 and "1". What has no
such text, or one of more than 255 bytes, is no key, and is told in words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.job import MAX_TEXT_BYTES
from rabbitray.actors.message.pointer import NOTHING, Tokens, pointer_tokens, pointer_value
from rabbitray.actors.message.properties import fields as f
from rabbitray.actors.message.properties.fields import short_text_at
from rabbitray.actors.message.properties.property_list import Properties

Place = Literal["default", "header", "property", "body", "none"]

PROPERTY_FLAGS: Final = {
    "message_id": f.MESSAGE_ID,
    "correlation_id": f.CORRELATION_ID,
    "type": f.TYPE,
    "app_id": f.APP_ID,
    "reply_to": f.REPLY_TO,
    "user_id": f.USER_ID,
}
"""The properties that may be the key."""

ALLOWED: Final = (
    f"default, header:NAME, property:NAME ({', '.join(PROPERTY_FLAGS)}), body:POINTER (a JSON pointer such as "
    "/order/id; ~1 stands for / and ~0 for ~ in a name), or none"
)

_EXACT_BELOW: Final = 2.0**53  # a float above may stand for several whole numbers
_LARGEST_BITS: Final = 850  # a number of 255 digits has 848
_LARGEST_EXPONENT: Final = 256

Table = Mapping[str, object]


class Found(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A key; or None, and why there is none, in words."""

    key: str | None = None
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRule:
    """`text`: as it was given. `name`: of the header or property; `tokens`: of the pointer into the body."""

    text: str = "default"
    place: Place = "default"
    name: str = ""
    tokens: Tokens = ()


DEFAULT_RULE: Final = KeyRule()
_UNREAD: Final = Found()  # the body is read by a worker


def parse_key_rule(text: str) -> KeyRule:
    """The rule that a text states. Raises ConfigurationError, one line, for one that states none."""
    place, colon, rest = text.partition(":")
    if text in ("default", "none"):
        return KeyRule(text=text, place="none" if text == "none" else "default")
    if place == "header" and 0 < len(rest.encode("utf-8", "replace")) <= MAX_TEXT_BYTES:
        return KeyRule(text=text, place="header", name=rest)
    if place == "property" and rest in PROPERTY_FLAGS:
        return KeyRule(text=text, place="property", name=rest)
    if place == "body" and colon and (tokens := pointer_tokens(rest)) is not None:
        return KeyRule(text=text, place="body", tokens=tokens)
    near = get_close_matches(rest, PROPERTY_FLAGS, 1) if place == "property" else []
    hint = f"; did you mean property:{near[0]}?" if near else ""
    raise ConfigurationError(f"key {text!r} must be {ALLOWED}{hint}")


def key_in_delivery(rule: KeyRule, table: Table, properties: object, message_id: str | None) -> Found:
    """What a message's headers and properties say of its key, by a rule that is not the default.

    A copy of ours has the key that its message was worked under, in a header of ours beside the count of its attempts.
    A producer's own header of that name does not count: the rule names another place. `message_id`: as it was read.
    """
    if rule.place == "none":
        return Found(missing="there are no keys")
    if h.ATTEMPT in table and (copied := h.header_text(table.get(h.KEY))) is not None:
        return Found(key=copied)
    if rule.place == "header":
        return _named(key_of_value(table[rule.name]), f"header {rule.name!r}") if rule.name in table else _no(rule)
    if rule.place == "property":
        value = message_id if rule.name == "message_id" else _property(rule.name, properties)
        return _named(key_of_value(value), f"property {rule.name}") if value else _no(rule)
    return _UNREAD


def converted_id(table: Table) -> str | None:
    """The message id that an AMQP 1.0 client gave, where RabbitMQ 4 could make no property of it: bytes, for one."""
    return key_of_value(table.get(h.CONVERTED_ID)).key


def key_in_body(rule: KeyRule, payload: Any) -> Found:  # Any: whatever a producer sent
    """The key in what a body holds, for a rule that says so."""
    value = pointer_value(payload, rule.tokens)
    return _no(rule) if value is NOTHING else _named(key_of_value(value), rule.text)


def key_of_value(value: object) -> Found:
    """The key that a value stands for, see above; costs no more than the key is long, whatever it is."""
    if isinstance(value, str):
        return _short(value)
    if isinstance(value, bool) or value is None:
        return Found(missing="null" if value is None else "true or false")
    if isinstance(value, int):
        return _short(str(int(value))) if value.bit_length() <= _LARGEST_BITS else _too_long("a number")
    if isinstance(value, bytes | bytearray):
        return _of_bytes(bytes(value))
    if isinstance(value, float):
        return _of_float(value)
    if isinstance(value, Decimal):
        return _of_decimal(value)
    if isinstance(value, UUID):
        return Found(key=str(value))
    kinds = ((Mapping, "a map"), (Sequence, "a list"))
    return Found(missing=next((kind for of, kind in kinds if isinstance(value, of)), f"a {type(value).__name__}"))


def _of_bytes(value: bytes) -> Found:
    if len(value) > MAX_TEXT_BYTES:
        return _too_long("bytes")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return _short(f"0x{value.hex()}")
    return _short(text if text.isprintable() else f"0x{value.hex()}")


def _of_float(value: float) -> Found:
    if not math.isfinite(value) or abs(value) >= _EXACT_BELOW:
        return Found(missing="a number that may have been rounded")
    return _short(str(int(value))) if value.is_integer() else _of_decimal(Decimal(repr(value)))


def _of_decimal(value: Decimal) -> Found:
    if not value.is_finite():
        return Found(missing="a number that is none")
    if abs(value.adjusted()) > _LARGEST_EXPONENT or len(value.as_tuple().digits) > _LARGEST_EXPONENT:
        return _too_long("a number")
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return _short("0" if text == "-0" else text)


def _short(text: str) -> Found:
    """A text of 1 to 255 bytes is a key."""
    if not text:
        return Found(missing="an empty text")
    if len(text) > MAX_TEXT_BYTES:
        return _too_long("a text")
    if text.isascii():
        return Found(key=str.__str__(text))
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return Found(missing="a text that has no UTF-8 form")
    return Found(key=str.__str__(text)) if size <= MAX_TEXT_BYTES else _too_long("a text")


def _too_long(what: str) -> Found:
    return Found(missing=f"{what} of more than {MAX_TEXT_BYTES} bytes")


def _no(rule: KeyRule) -> Found:
    """Nothing is where the rule says."""
    where = {"header": f"header {rule.name!r}", "property": f"property {rule.name}"}.get(rule.place, rule.text)
    return Found(missing=f"there is no {where}")


def _named(found: Found, where: str) -> Found:
    return found if found.key is not None else Found(missing=f"{where} is {found.missing}")


def _property(name: str, properties: object) -> object:
    """A property as it stands in the message."""
    if not isinstance(properties, Properties):
        return getattr(properties, name, None)
    return short_text_at(properties.raw, PROPERTY_FLAGS[name])
