"""Compressed bodies: plain again, within the limits; or only their first bytes, or how much they may hold. Pure.

The router asks for the last two of each message that has a content encoding: they build nothing.
"""

from __future__ import annotations

import zlib
from typing import Final

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.wire.codings import coding_of
from rabbitray.actors.message.wire.decompress import decompressed
from rabbitray.actors.message.wire.limits import MessageLimits

_GZIP: Final = ("gzip",)
_ZSTD: Final = ("zstd",)
_GZIP_BITS: Final = 31
_MEMBERS: Final = {"gzip": b"\x1f\x8b\x08", "zstd": b"\x28\xb5\x2f\xfd"}
"""How each member of such a body begins."""
_LOOKED_AT: Final = 4 * 1024
_SHOWN: Final = 16
_MOST_RATIO: Final = 1032
"""Deflate makes 258 bytes out of 2 bits at best."""
_DEFLATES: Final = (_GZIP, ("deflate",))
_ZSTD_HEADER_MOST: Final = 18
"""Bytes of the header of a frame, and more than those of an empty one."""


def plain_body(body: bytes, content_encoding: str | None, limits: MessageLimits) -> bytes:
    """Return the body without its compression; DecodeError when it is too large, before it or after."""
    if len(body) > limits.max_message_bytes:
        raise DecodeError("too_large", f"{len(body)} bytes, at most {limits.max_message_bytes}")
    if not content_encoding:
        return body
    coding = coding_of(content_encoding)
    if coding.unknown is not None:
        raise DecodeError("unsupported_encoding", coding.unknown)
    if not coding.steps:
        return body
    most = _most(body, coding.steps, limits)
    for step in coding.steps:
        body = decompressed(body, step, most)
        if len(body) > limits.max_message_bytes:
            raise DecodeError("too_large", f"more than {limits.max_message_bytes} bytes once decompressed")
        if len(body) > most:
            raise DecodeError(f"bad_{step}", f"more than the {most} bytes that it says it holds")
    return body


def plain_size(body: bytes, content_encoding: str | None, limits: MessageLimits) -> int:
    """Return the most bytes that reading this body makes of it: its own, or those that a compressed body says it holds.

    What it says is what it is read to, see `plain_body`. gzip and zstd say it, where there is one member; what says
    nothing counts as the most that it could hold, which makes small batches.
    """
    if not content_encoding or not (steps := coding_of(content_encoding).steps):
        return len(body)
    return max(len(body), _most(body, steps, limits))


def first_bytes(body: bytes, content_encoding: str | None) -> bytes | None:
    """Return the first bytes of the plain body, the whole one if it is not compressed; about 3 us for gzip.

    Empty: it cannot be read at all. None: its first 4 KiB do not say it, or it is compressed in another way.
    """
    coding = coding_of(content_encoding)
    if coding.unknown is not None:
        return b""
    if not coding.steps:
        return body
    if coding.steps != _GZIP:
        return None
    try:
        shown = zlib.decompressobj(wbits=_GZIP_BITS).decompress(body[:_LOOKED_AT], _SHOWN)
    except zlib.error:
        return b""
    return shown or (None if len(body) > _LOOKED_AT else b"")


def _most(body: bytes, steps: tuple[str, ...], limits: MessageLimits) -> int:
    """How many bytes such a body may hold: those that it says, or that its compression could make of it."""
    most = limits.max_message_bytes
    if len(steps) > 1:
        return most
    said = None
    if steps in _DEFLATES:
        most = min(most, len(body) * _MOST_RATIO)
    if steps == _GZIP and not _may_go_on(body, "gzip"):
        said = int.from_bytes(body[-4:], "little")
    elif steps == _ZSTD and not _may_go_on(body, "zstd"):
        said = _zstd_said(body)
    return most if said is None else min(most, said)


def _may_go_on(body: bytes, name: str) -> bool:
    """Whether a body may have a second member: surely not where nothing in it begins as one."""
    return body.find(_MEMBERS[name], 1) >= 0


def _zstd_said(body: bytes) -> int | None:
    """The content size in the header of a frame of zstd (RFC 8878, 3.1.1.1); None where it says none."""
    if len(body) < _ZSTD_HEADER_MOST or not body.startswith(_MEMBERS["zstd"]):
        return None
    kind, single, dictionary = body[4] >> 6, body[4] >> 5 & 1, (0, 1, 2, 4)[body[4] & 3]
    at = 5 + (not single) + dictionary
    match kind:
        case 0:
            return body[at] if single else None
        case 1:
            return int.from_bytes(body[at : at + 2], "little") + 256
        case _:
            return int.from_bytes(body[at : at + (4 if kind == 2 else 8)], "little")
