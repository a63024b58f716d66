"""Decompression within a bound: no more is built than one byte beyond it, whatever a body holds. Pure.

zstd and brotli need a package beside ours; without it the message is refused, and its error says which.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from rabbitray.actors.errors import DecodeError

_GZIP_BITS: Final = 31
_ZLIB_BITS: Final = 15
_RAW_BITS: Final = -15
_GZIP_START: Final = b"\x1f\x8b"
_WINDOW_LEAST: Final = 8 * 1024 * 1024  # what RFC 8878 asks each decoder of zstd to have
_XZ_MEMORY: Final = 80 * 1024 * 1024  # xz -9 needs 65 MiB

MOST_MEMBERS: Final = 100
"""Of one body; what is left of it is copied for each of them."""

Step = Callable[[bytes, int], bytes]


def decompressed(body: bytes, name: str, most: int) -> bytes:
    """The plain bytes of a body, or, where it holds more than `most`, the first `most + 1` of them.

    Raises DecodeError, `bad_<name>`, for one that is damaged or has a tail, `unsupported_encoding` without its package.
    """
    return _STEPS[name](body, most)


def _gunzipped(body: bytes, most: int) -> bytes:
    """The members of a gzip body, one after the other, counted together."""
    return _members(body, most, "gzip", lambda: zlib.decompressobj(wbits=_GZIP_BITS), zlib.error)


def _inflated(body: bytes, most: int) -> bytes:
    """`deflate` is what zlib writes; some write its content alone, and kombu's name for it says gzip."""
    if body.startswith(_GZIP_START):
        return _gunzipped(body, most)
    wrapped = len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    bits = _ZLIB_BITS if wrapped else _RAW_BITS
    return _one(body, most, "deflate", zlib.decompressobj(wbits=bits), zlib.error)


def _bunzipped(body: bytes, most: int) -> bytes:
    return _members(body, most, "bzip2", bz2.BZ2Decompressor, (OSError, ValueError))


def _unxzed(body: bytes, most: int) -> bytes:
    return _members(body, most, "xz", lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY), lzma.LZMAError)


def _unzstd(body: bytes, most: int) -> bytes:
    new, error = _zstd(max(most, _WINDOW_LEAST))
    return _members(body, most, "zstd", new, error)


def _unbrotli(body: bytes, most: int) -> bytes:
    brotli = _package("brotli", "br", "Brotli>=1.2")
    stream = brotli.Decompressor()
    try:
        chunks, size = [stream.process(body, output_buffer_limit=most + 1)], 0
        while (size := size + len(chunks[-1])) <= most and not (stream.is_finished() or stream.can_accept_more_data()):
            chunks.append(stream.process(b"", output_buffer_limit=most + 1 - size))
    except TypeError:  # an older one has no limit
        raise _missing("br", "Brotli>=1.2") from None
    except brotli.error as error:
        raise DecodeError("bad_br", str(error)[:200]) from None
    if size <= most and not stream.is_finished():
        raise DecodeError("bad_br", "truncated")
    return b"".join(chunks)


_STEPS: Final[dict[str, Step]] = {
    "gzip": _gunzipped,
    "deflate": _inflated,
    "bzip2": _bunzipped,
    "xz": _unxzed,
    "zstd": _unzstd,
    "br": _unbrotli,
}


def _one(body: bytes, most: int, name: str, stream: Any, errors: Any) -> bytes:  # Any: the same methods, no base
    """What one stream holds; nothing may follow it."""
    plain = _part(stream, body, most + 1, name, errors)
    if len(plain) <= most and (not stream.eof or stream.unused_data):
        raise DecodeError(f"bad_{name}", "truncated, or with a tail")
    return plain


def _members(body: bytes, most: int, name: str, new: Callable[[], Any], errors: Any) -> bytes:  # Any: as above
    """What streams that follow one another hold, until there is more than `most`."""
    parts: list[bytes] = []
    size = 0
    while True:
        stream = new()
        parts.append(_part(stream, body, most + 1 - size, name, errors))
        size += len(parts[-1])
        if size > most:
            break
        if not stream.eof:
            raise DecodeError(f"bad_{name}", "truncated")
        body = stream.unused_data
        if not body:
            break
        if len(parts) == MOST_MEMBERS:
            raise DecodeError(f"bad_{name}", f"more than {MOST_MEMBERS} members")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _part(stream: Any, body: bytes, most: int, name: str, errors: Any) -> bytes:  # Any: as above
    try:
        plain: bytes = stream.decompress(body, most)
    except errors as error:
        raise DecodeError(f"bad_{name}", str(error)[:200]) from None
    return plain


def _zstd(window: int) -> tuple[Callable[[], Any], Any]:  # Any: of two modules with the same names
    """What makes a stream of zstd that takes windows of so many bytes, and its errors."""
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    module = _package(name, "zstd", "backports.zstd")
    options = {module.DecompressionParameter.window_log_max: (window - 1).bit_length()}
    return lambda: module.ZstdDecompressor(options=options), module.ZstdError


def _package(module: str, name: str, package: str) -> Any:  # Any: a module
    try:
        return import_module(module)
    except ImportError:
        raise _missing(name, package) from None


def _missing(name: str, package: str) -> DecodeError:
    return DecodeError("unsupported_encoding", f"{name}: needs the package {package}, which is not installed here")
