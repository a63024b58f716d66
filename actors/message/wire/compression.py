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


def plain_body(body: bytes, content_encoding: str | None, limits: MessageLimits) -> bytes:
    """Return the body without its compression; DecodeError when it is too large, before it or after."""
    if len(body) > limits.max_message_bytes:
        raise DecodeError("too_large", f"{len(body)} bytes, at most {limits.max_message_bytes}")
    encoding = _name(content_encoding)
    return body if encoding in _NONE else _decompressed(body, encoding, limits)


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


def _decompressed(body: bytes, encoding: str, limits: MessageLimits) -> bytes:
    """Return the plain body of a gzip one, never building more than the limit."""
    if encoding not in _GZIP:
        raise DecodeError("unsupported_encoding", encoding[:100])
    stream = zlib.decompressobj(wbits=_GZIP_BITS)
    try:
        plain = stream.decompress(body, limits.max_message_bytes + 1)
    except zlib.error as error:
        raise DecodeError("bad_gzip", str(error)) from None
    if len(plain) > limits.max_message_bytes:
        raise DecodeError("too_large", f"more than {limits.max_message_bytes} bytes once decompressed")
    if not stream.eof or stream.unused_data:
        raise DecodeError("bad_gzip", "truncated, or with a tail")
    return plain
