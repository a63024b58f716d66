"""Compressed bodies: plain again, within the limits; or only their first bytes. Pure."""

from __future__ import annotations

import zlib
from typing import Final

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.wire.limits import MessageLimits

_NONE: Final = frozenset(("", "identity", "utf-8", "utf8", "us-ascii", "ascii", "binary"))
"""kombu writes the charset into the content encoding."""

_GZIP: Final = frozenset(("gzip", "x-gzip"))
_GZIP_BITS: Final = 31
_LOOKED_AT: Final = 4 * 1024
_SHOWN: Final = 16
_MOST_RATIO: Final = 1032
"""Deflate makes 258 bytes out of 2 bits at best."""


def plain_body(body: bytes, content_encoding: str | None, limits: MessageLimits) -> bytes:
    """Return the body without its compression; DecodeError when it is too large, before it or after."""
    if len(body) > limits.max_message_bytes:
        raise DecodeError("too_large", f"{len(body)} bytes, at most {limits.max_message_bytes}")
    encoding = _name(content_encoding)
    return body if encoding in _NONE else _decompressed(body, encoding, limits)


def plain_size(body: bytes, content_encoding: str | None, limits: MessageLimits) -> int:
    """Return the most bytes that reading this body makes of it: its own, or those that a gzip body says it holds.

    What it says is what it is read to, see `plain_body`.
    """
    if not content_encoding or _name(content_encoding) not in _GZIP:
        return len(body)
    return max(len(body), min(_said(body), len(body) * _MOST_RATIO, limits.max_message_bytes))


def first_bytes(body: bytes, content_encoding: str | None) -> bytes | None:
    """Return the first bytes of the plain body, the whole one if it is not compressed; about 3 us for gzip.

    Empty: it cannot be read at all. None: its first 4 KiB do not say it.
    """
    encoding = _name(content_encoding)
    if encoding in _NONE:
        return body
    if encoding not in _GZIP:
        return b""
    try:
        shown = zlib.decompressobj(wbits=_GZIP_BITS).decompress(body[:_LOOKED_AT], _SHOWN)
    except zlib.error:
        return b""
    return shown or (None if len(body) > _LOOKED_AT else b"")


def _name(content_encoding: str | None) -> str:
    return content_encoding.strip().lower() if content_encoding else ""


def _said(body: bytes) -> int:
    """How many bytes a gzip body holds by its last four."""
    return int.from_bytes(body[-4:], "little")


def _decompressed(body: bytes, encoding: str, limits: MessageLimits) -> bytes:
    """Return the plain body of a gzip one, never building more than the limit, nor more than it says it holds."""
    if encoding not in _GZIP:
        raise DecodeError("unsupported_encoding", encoding[:100])
    most = min(_said(body), limits.max_message_bytes)
    stream = zlib.decompressobj(wbits=_GZIP_BITS)
    try:
        plain = stream.decompress(body, most + 1)
    except zlib.error as error:
        raise DecodeError("bad_gzip", str(error)) from None
    if len(plain) > limits.max_message_bytes:
        raise DecodeError("too_large", f"more than {limits.max_message_bytes} bytes once decompressed")
    if len(plain) > most:
        raise DecodeError("bad_gzip", f"more than the {most} bytes that it says it holds")
    if not stream.eof or stream.unused_data:
        raise DecodeError("bad_gzip", "truncated, or with a tail")
    return plain
