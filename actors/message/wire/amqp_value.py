"""The body sections of AMQP 1.0 (part 3, 3.2.6 to 3.2.8), as RabbitMQ hands them to a 0-9-1 client. Pure.

A body that is one data section arrives as its bytes. Any other arrives as it was encoded, and only the property `type`,
`amqp-1.0`, says so, which does not travel to a worker; no JSON, msgpack map or text begins in this way.
"""

from __future__ import annotations

from typing import Final

from rabbitray.actors.errors import DecodeError

_DATA, _SEQUENCE, _VALUE = 0x75, 0x76, 0x77
_SMALL, _LARGE = 0x53, 0x80  # an unsigned long of 1 byte, of 8: what a section's descriptor is
_SMALL_END: Final = 3
_LARGE_END: Final = 10
_LENGTHS: Final = {0xA0: 1, 0xB0: 4, 0xA1: 1, 0xB1: 4, 0xA3: 1, 0xB3: 4}  # binary, string, symbol
_BINARIES: Final = frozenset((0xA0, 0xB0))
_KINDS: Final = {
    0x40: "null",
    **dict.fromkeys((0x41, 0x42, 0x56), "a boolean"),
    **dict.fromkeys((0x45, 0xC0, 0xD0), "a list"),
    **dict.fromkeys((0xC1, 0xD1), "a map"),
    **dict.fromkeys((0xE0, 0xF0), "an array"),
    **dict.fromkeys((0x83,), "a time stamp"),
    **dict.fromkeys((0x98,), "a UUID"),
    0x00: "a described type",
}


def is_section(body: bytes) -> bool:
    """Whether a body begins as a section of AMQP 1.0."""
    return body.startswith(b"\x00") and _section(body, 0)[0] in (_DATA, _SEQUENCE, _VALUE)


def section_body(body: bytes) -> str | bytes:
    """Return the text or the bytes of which such a body consists; DecodeError `amqp_value` for any other value."""
    parts: list[str | bytes] = []
    at = 0
    while at < len(body):
        kind, start = _section(body, at)
        if kind == _SEQUENCE:
            raise DecodeError("amqp_value", "the body is an AMQP 1.0 sequence; send text or bytes")
        value, at = _value(body, start)
        parts.append(value)
        if (kind != _DATA and len(body) > at) or kind not in (_DATA, _VALUE):
            raise DecodeError("amqp_value", "more follows the AMQP 1.0 value of the body")
    if len(parts) == 1:
        return parts[0]
    return b"".join(part if isinstance(part, bytes) else part.encode() for part in parts)


def _section(body: bytes, at: int) -> tuple[int | None, int]:
    """The code of the section that begins there, and where its value does; None for no section."""
    if body[at : at + 2] == bytes((0, _SMALL)) and len(body) > at + _SMALL_END:
        return body[at + 2], at + _SMALL_END
    if body[at : at + 2] == bytes((0, _LARGE)) and len(body) > at + _LARGE_END:
        return int.from_bytes(body[at + 2 : at + _LARGE_END], "big"), at + _LARGE_END
    return None, at


def _value(body: bytes, at: int) -> tuple[str | bytes, int]:
    """The text or the bytes that are encoded there, and where they end."""
    kind = body[at]
    width = _LENGTHS.get(kind)
    if width is None:
        shown = _KINDS.get(kind, "a number")
        raise DecodeError("amqp_value", f"the body is {shown} of AMQP 1.0; send text or bytes")
    start = at + 1 + width
    end = start + int.from_bytes(body[at + 1 : start], "big")
    if end > len(body):
        raise DecodeError("amqp_value", "the AMQP 1.0 value of the body is truncated")
    raw = bytes(body[start:end])
    if kind in _BINARIES:
        return raw, end
    try:
        return raw.decode(), end
    except UnicodeDecodeError as error:
        raise DecodeError("amqp_value", f"a text of AMQP 1.0 that is no UTF-8: {error}"[:200]) from None
