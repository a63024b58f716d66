"""Bodies that are dear to a careless reader, of about the size that is asked for. Each is one function of that size."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

from backports import zstd

from rabbitray.actors.message.formats.cbor import CBOR
from rabbitray.actors.message.formats.cloudevents import STRUCTURED
from rabbitray.actors.message.headers import JSON, MSGPACK, PACKED

Body = tuple[bytes, str, str]  # body, content type, content encoding

EMOJI = "😀".encode()


def _list(items: bytes, size: int, each: int = 90_000) -> bytes:
    """A msgpack list of lists of `each` times one item, at most five of them."""
    inner = b"\xdd" + min(each, max(1, size // len(items))).to_bytes(4, "big")
    rows = max(1, min(5, size // (each * len(items))))
    return bytes((0x90 | rows,)) + (inner + items * int.from_bytes(inner[1:], "big")) * rows


def _json_rows(item: bytes, size: int, each: int = 90_000) -> bytes:
    """A JSON list of lists, as above."""
    row = b"[" + b",".join([item] * min(each, max(1, size // (len(item) + 1)))) + b"]"
    return b"[" + b",".join([row] * max(1, min(5, size // (each * len(item))))) + b"]"


def _own_keys(size: int) -> bytes:
    maps = (b'{"%07x":1.5}' % number for number in range(min(size // 14, 80_000)))
    return b"[" + b",".join(maps) + b"]"


def _msgpack_keys(size: int) -> bytes:
    count = min(size // 10, 80_000)
    maps = (b"\x81\xc4\x04" + number.to_bytes(4, "big") + b"\xd4\x05x" for number in range(count))
    return b"\xdd" + count.to_bytes(4, "big") + b"".join(maps)


HOSTILE: dict[str, Callable[[int], Body]] = {
    # the report of issue 15: a pattern for JSON texts went back over all of it, from each of its quotes
    "an unterminated text": lambda n: (b"b," * (n // 4) + b'"' + b'\\"' * (n // 4), JSON, ""),
    "half quotes": lambda n: (b'"\\' * (n // 2), JSON, ""),
    "texts without an end between them": lambda n: (b'""' * (n // 2), JSON, ""),
    "empty lists": lambda n: (b"[" + b"[]," * (n // 3) + b"0]", JSON, ""),
    "brackets": lambda n: (b"[" * n, JSON, ""),
    "blanks": lambda n: (b"[" + b" " * n + b"]", JSON, ""),
    "blanks in empty lists": lambda n: (b"[" + (b"[" + b" " * 90 + b"],") * (n // 93) + b"0]", JSON, ""),
    "small texts": lambda n: (_json_rows(b'"ab"', n), JSON, ""),
    "maps of one pair": lambda n: (_json_rows(b'{"a":1.5}', n, 50_000), JSON, ""),
    "maps of one pair with keys of their own": lambda n: (_own_keys(n), JSON, ""),
    "commas in a text": lambda n: (b'{"i":"1","p":"' + b"," * n + b'"}', JSON, ""),
    "colons in a text": lambda n: (b'{"i":"1","p":"' + b'\\":' * (n // 3) + b'"}', JSON, ""),
    "a key many times": lambda n: (b'{"i":"1","p":{' + b'"a":1,' * (n // 6) + b'"a":1}}', JSON, ""),
    "keys of nobody": lambda n: (b'{"i":1,"t":2,' + b",".join(b'"%d":1' % k for k in range(n // 9)) + b"}", JSON, ""),
    "a long time": lambda n: (b'{"i":"1","s":"' + b"\\u0001" * (n // 6) + b'"}', JSON, ""),
    "a long number of ms": lambda n: (b'{"i":"1","m":["' + b"\\u0001" * (n // 6) + b'"]}', JSON, ""),
    "many digits": lambda n: (b"1" * n, JSON, ""),
    "many numbers of 4,300 digits": lambda n: (b"[" + (b"9" * 4_300 + b",") * (n // 4_301) + b"1]", JSON, ""),
    "a large exponent": lambda n: (b"1e" + b"9" * n, JSON, ""),
    "many decimals": lambda n: (b"0." + b"1" * n, JSON, ""),
    "half surrogates": lambda n: (b'"' + b"\\ud800" * (n // 6) + b'"', JSON, ""),
    "a text that widens": lambda n: (b'"' + b"a" * n + "é€".encode() + EMOJI + b'"', JSON, ""),
    "an escaped text that widens": lambda n: (b'"\\n' + b"a" * n + "é€".encode() + EMOJI + b'"', JSON, ""),
    "plain text that widens": lambda n: (b"a" * n + "é€".encode() + EMOJI, "text/plain", ""),
    "lists that lie": lambda n: (b"\xdd\x00\x01\x86\xa0" * 900 + b"\x01" * n, MSGPACK, ""),
    "a few lists that lie": lambda n: (b"\xdd\x00\x00\x03\xff" * 200, MSGPACK, ""),
    "lists that lie, and end": lambda n: (b"\xdc\xff\xff" * (n // 3), MSGPACK, ""),
    "empty maps": lambda n: (b"\xdd" + n.to_bytes(4, "big") + b"\x80" * n, MSGPACK, ""),
    "open lists": lambda n: (b"\xdd\x00\x01\x86\x9f" + b"\xa2ab" * 99_998 * (n // 300_000), MSGPACK, ""),
    "msgpack maps of one pair": lambda n: (_msgpack_keys(n), MSGPACK, ""),
    "maps in maps": lambda n: (_list(b"\x81\xa0" * 29 + b"\x90", n, n), MSGPACK, ""),
    "lists in lists": lambda n: (_list(b"\x91" * 29 + b"\x90", n, n), MSGPACK, ""),
    "msgpack texts": lambda n: (_list(b"\xa2ab", n), MSGPACK, ""),
    "extensions": lambda n: (_list(b"\xd4\x05x", n), MSGPACK, ""),
    "time stamps": lambda n: (_list(b"\xd6\xff\x00\x00\x00\x01", n), MSGPACK, ""),
    "floats": lambda n: (_list(b"\xca\x3f\x80\x00\x00", n), MSGPACK, ""),
    "one long binary": lambda n: (b"\xc6" + n.to_bytes(4, "big") + b"x" * n, MSGPACK, ""),
    "a million empty records": lambda n: (b"\xdd" + n.to_bytes(4, "big") + b"\x80" * n, PACKED, ""),
    "a thousand records": lambda n: (
        b"\xdc\x03\xe8" + (b"\x82\xa1i\xa1a\xa1p\xc5" + (n // 1_000).to_bytes(2, "big") + b"y" * (n // 1_000)) * 1_000,
        PACKED,
        "",
    ),
    "a thousand records of small things": lambda n: (
        b"\xdc\x03\xe8"
        + (b"\x82\xa1i\xa1a\xa1p\xdc" + min(490, n // 1_000).to_bytes(2, "big") + b"\x01" * min(490, n // 1_000))
        * 1_000,
        PACKED,
        "",
    ),
    "a thousand records with a name of bytes": lambda n: (
        b"\xdc\x03\xe8"
        + (b"\x82\xa1i\xa1a\xa1p\x81\xc4\x01k\xc5" + (n // 1_000).to_bytes(2, "big") + b"y" * (n // 1_000)) * 1_000,
        PACKED,
        "",
    ),
    "a gzip bomb": lambda n: (gzip.compress(b"\x00" * n, 1, mtime=0), "text/plain", "gzip"),
    "a gzip bomb that lies": lambda n: (
        gzip.compress(b"\x00" * n, 1, mtime=0)[:-4] + b"\x01\x00\x00\x00",
        "text/plain",
        "gzip",
    ),
    "gzip bombs, one behind the other": lambda n: (
        gzip.compress(b"\x00" * (n // 4), 1, mtime=0) * 4,
        "text/plain",
        "gzip",
    ),
    "a zstd bomb": lambda n: (zstd.compress(b"\x00" * n, 1), "text/plain", "zstd"),
    "a bomb in a bomb": lambda n: (gzip.compress(zlib.compress(b"\x00" * n, 1), 1), "text/plain", "deflate, gzip"),
    "CBOR lists in lists": lambda n: (
        b"\x9a" + (n // 9).to_bytes(4, "big") + (b"\x81" * 8 + b"\x01") * (n // 9),
        CBOR,
        "",
    ),
    "an event with many fields": lambda n: (
        b'{"specversion":"1.0","id":"1","source":"/","type":"t","data":[' + b"{}," * (n // 3) + b"{}]}",
        STRUCTURED,
        "",
    ),
    "gzip of nothing": lambda n: (
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + b"\x00\x00\x00\xff\xff" * (n // 5),
        "text/plain",
        "gzip",
    ),
    "a gzip name without an end": lambda n: (
        b"\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xff" + b"n" * n,
        "text/plain",
        "gzip",
    ),
}
