"""What a content encoding says: how a body is compressed, and the charset of its text. Pure.

kombu writes the charset into the content encoding and the compression into a header of its own, whose value the router
adds here with a comma, as HTTP joins several: the last one was applied last.
"""

from __future__ import annotations

import codecs
import functools
from typing import Final, NamedTuple

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.headers import MAX_TEXT, header_text

MOST_STEPS: Final = 2
"""Compressions of one body, one in the other: that of the content encoding, and kombu's."""

_NONE: Final = frozenset(("", "identity", "binary", "ascii-8bit", "8bit", "7bit", "none"))
_COMPRESSIONS: Final = {
    **dict.fromkeys(("gzip", "x-gzip"), "gzip"),
    **dict.fromkeys(("deflate", "zlib", "application/x-gzip"), "deflate"),  # kombu's name for what zlib writes
    **dict.fromkeys(("bzip2", "bzip", "x-bzip2", "application/x-bz2"), "bzip2"),
    **dict.fromkeys(("xz", "lzma", "x-xz", "application/x-lzma"), "xz"),
    **dict.fromkeys(("zstd", "zstandard", "application/zstd"), "zstd"),
    **dict.fromkeys(("br", "brotli", "application/x-brotli"), "br"),
}
_UTF_8: Final = frozenset(("utf-8", "ascii"))  # as Python calls them; what is ASCII is UTF-8 too
_CHARSETS: Final = frozenset(
    [
        *(f"utf-{size}{order}" for size in (16, 32) for order in ("", "-le", "-be")),
        *("iso8859-1", *(f"iso8859-{part}" for part in range(2, 17) if part != 12)),
        *(f"cp{page}" for page in (437, 850, 852, 866, 874, 932, 949, 950, *range(1250, 1259))),
        *("koi8-r", "koi8-u", "mac-roman", "tis-620"),
        *("shift_jis", "euc_jp", "iso2022_jp", "euc_kr", "gb2312", "gbk", "gb18030", "big5"),
    ]
)
"""As Python calls them. It has encodings beside that compress, or take time that grows with the square of a text."""


class Coding(NamedTuple):
    """`steps`: compressions, the first to be undone first. `charset`: None for UTF-8. `unknown`: a name that is none
    of ours.
    """

    steps: tuple[str, ...] = ()
    charset: str | None = None
    unknown: str | None = None


PLAIN: Final = Coding()


@functools.lru_cache(maxsize=64)  # a queue has a few
def coding_of(content_encoding: str | None) -> Coding:
    """What this content encoding means; names in any case, several with commas between."""
    steps: list[str] = []
    charset = unknown = None
    for part in (content_encoding or "").split(","):
        name = part.strip().lower()
        if name in _NONE:
            continue
        if compression := _COMPRESSIONS.get(name):
            steps.append(compression)
        elif (known := _charset(name)) is not None:
            charset = known or None
        else:
            unknown = name[:100]
    if len(steps) > MOST_STEPS:
        unknown = "+".join(steps)[:100]
    return Coding(tuple(reversed(steps)), charset, unknown) if steps or charset or unknown else PLAIN


def with_compression(content_encoding: str, header: object) -> str:
    """The content encoding of a message with kombu's header `compression`, where that names a compression.

    A copy may bear both, the encoding with it already: then it was applied once all the same.
    """
    name = header_text(header)
    if name is None or not coding_of(name).steps or content_encoding.endswith(name):
        return content_encoding
    both = f"{content_encoding}, {name}" if content_encoding else name
    return both if len(both) <= MAX_TEXT else content_encoding


@functools.lru_cache(maxsize=64)  # likewise
def charset_of(content_type: str, content_encoding: str | None) -> str | None:
    """The charset of a text: the content type's parameter, else the content encoding's; None for UTF-8.

    Raises DecodeError for one that is not known.
    """
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip('"').strip().lower()
            known = _charset(charset)
            if known is None:
                raise DecodeError("unsupported_charset", charset[:100])
            return known or None
    return coding_of(content_encoding).charset


def text_in(body: bytes, charset: str | None) -> str:
    """The text that a body is; DecodeError where it is none."""
    try:
        return body.decode(charset or "utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError("bad_text", str(error)[:200]) from None


def _charset(name: str) -> str | None:
    """The name of a charset for Python; "" for UTF-8; None for none."""
    if name in ("utf-8", "utf8", "us-ascii"):
        return ""
    try:
        known = codecs.lookup(name).name
    except (LookupError, ValueError, UnicodeError):  # ValueError: a null character
        return None
    return "" if known in _UTF_8 else known if known in _CHARSETS else None
