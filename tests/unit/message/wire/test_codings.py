"""Encodings and charsets: what producers write is undone within the bounds, and what is not known is named."""

from __future__ import annotations

import bz2
import gzip
import importlib
import json
import lzma
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.headers import JOB_JSON, JSON, PACKED
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import MessageLimits, count_records, decode, pack, plain_size, with_compression
from rabbitray.actors.message.wire.codings import coding_of
from rabbitray.actors.message.wire.compression import plain_body
from rabbitray.actors.message.wire.decompress import MOST_MEMBERS

zstd = importlib.import_module("backports.zstd")
brotli = importlib.import_module("brotli")

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd.compress,
    "br": brotli.compress,
}
PLAIN = json.dumps({"order": 7, "name": "grüße", "lines": list(range(200))}).encode()
SMALL = MessageLimits(max_message_bytes=20_000)


def payload(body: bytes, encoding: str | None, content_type: str = JSON) -> object:
    [job] = decode(body, content_type, encoding)
    return job.payload


def refused(body: bytes, encoding: str, content_type: str = JSON, limits: MessageLimits = SMALL) -> str:
    with pytest.raises(DecodeError) as raised:
        decode(body, content_type, encoding, limits)
    return raised.value.reason


@pytest.mark.parametrize("name", COMPRESS)
def test_each_compression_is_undone_in_any_spelling(name: str) -> None:
    body = COMPRESS[name](PLAIN)
    for encoding in (name, name.upper(), f" {name} ", f"{name}, utf-8", f"utf-8,{name}"):
        assert payload(body, encoding) == json.loads(PLAIN)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("x-gzip", "gzip"),
        ("X-GZIP", "gzip"),
        ("gzip, utf-8", "gzip"),
        ("zlib", "deflate"),
        ("application/x-gzip", "deflate"),  # kombu means zlib
        ("application/x-gzip", "gzip"),  # others mean gzip
        ("application/x-bz2", "bzip2"),
        ("application/x-lzma", "xz"),
        ("application/zstd", "zstd"),
        ("application/x-brotli", "br"),
    ],
)
def test_the_names_of_others(name: str, method: str) -> None:
    assert payload(COMPRESS[method](PLAIN), name) == json.loads(PLAIN)


def test_deflate_without_its_wrapper_is_read_too() -> None:
    stream = zlib.compressobj(wbits=-15)
    assert payload(stream.compress(PLAIN) + stream.flush(), "deflate") == json.loads(PLAIN)


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zstd"])
def test_members_that_follow_one_another_are_one_body_and_counted_together(name: str) -> None:
    compress = COMPRESS[name]
    half = len(PLAIN) // 2
    assert payload(compress(PLAIN[:half]) + compress(PLAIN[half:]), name) == json.loads(PLAIN)
    assert refused(compress(b"x" * 9_000) * 3, name, "text/plain") == "too_large"
    assert refused(compress(b"") * (MOST_MEMBERS + 1), name, "text/plain") == f"bad_{name}"


@pytest.mark.parametrize("name", COMPRESS)
def test_a_bomb_is_not_built_and_a_damaged_body_is_named(name: str) -> None:
    body = COMPRESS[name](PLAIN * 3)
    assert refused(COMPRESS[name](b"\x00" * 5_000_000), name) == "too_large"
    assert refused(body[:-3], name) == f"bad_{name}"
    assert refused(body + b"tail", name) == f"bad_{name}" or name == "br"
    assert refused(b"not at all", name) == f"bad_{name}"
    assert refused(b"", name) == f"bad_{name}"


@pytest.mark.parametrize("name", COMPRESS)
def test_no_body_holds_more_than_the_router_was_told(name: str) -> None:
    for plain in (b"", b"x" * 15_000, PLAIN):
        body = COMPRESS[name](plain)
        assert len(plain) <= plain_size(body, name, SMALL) <= SMALL.max_message_bytes
    twice = COMPRESS["gzip"](COMPRESS[name](b"x" * 15_000))
    assert plain_size(twice, f"{name}, gzip", SMALL) == SMALL.max_message_bytes
    assert payload(twice, f"{name}, gzip", "text/plain") == "x" * 15_000


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_what_says_how_much_it_holds_counts_as_that(name: str) -> None:
    limits = MessageLimits()
    assert plain_size(COMPRESS[name](b"x" * 100_000), name, limits) == 100_000
    assert plain_size(COMPRESS[name](b"x" * 100) * 2, name, limits) > 10_000, "the second may hold anything"


@given(st.binary(max_size=60), st.sampled_from([*COMPRESS, "gzip, br", "deflate"]))
def test_any_bytes_are_plain_within_the_bound_or_refused(body: bytes, name: str) -> None:
    for begun in (body, COMPRESS["gzip"](b"ab")[:10] + body, COMPRESS["zstd"](b"x" * 40)[:9] + body):
        with suppress(DecodeError):
            assert len(plain_body(begun, name, SMALL)) <= plain_size(begun, name, SMALL)


def test_what_is_not_known_is_named() -> None:
    assert coding_of("snappy").unknown == "snappy"
    assert refused(PLAIN, "snappy") == refused(PLAIN, "gzip, snappy") == "unsupported_encoding"
    assert refused(PLAIN, "gzip, gzip, gzip") == "unsupported_encoding"
    assert refused(PLAIN, "", f"{JSON}; charset=klingon") == "unsupported_charset"
    assert refused(PLAIN, "", f"{JSON}; charset=zip") == "unsupported_charset", "no text encoding"
    assert refused(PLAIN, "", f"{JSON}; charset=idna") == "unsupported_charset", "its time grows with the square"
    assert refused(PLAIN, "rot13") == "unsupported_encoding"
    assert count_records(PLAIN, PACKED, "snappy") == 1


def test_without_its_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "brotli", None)
    with pytest.raises(DecodeError, match=r"unsupported_encoding: br: needs the package Brotli"):
        decode(COMPRESS["br"](PLAIN), JSON, "br")


def test_kombu_s_header_is_one_more_encoding_and_counts_once() -> None:
    assert with_compression("utf-8", "application/x-gzip") == "utf-8, application/x-gzip"
    assert with_compression("utf-8, application/x-gzip", "application/x-gzip") == "utf-8, application/x-gzip"
    assert with_compression("", "gzip") == "gzip"
    for nothing in ("high", "", None, 7, b"\xff", "utf-8"):
        assert with_compression("utf-8", nothing) == "utf-8"
    assert payload(zlib.compress(PLAIN), "utf-8, application/x-gzip") == json.loads(PLAIN)


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [("latin-1", None), ("ISO-8859-1", None), ('"utf-16"', None), ("utf-32-be", None), ("cp1252", None)]
    + [(None, name) for name in ("latin-1", "iso-8859-15", "utf-16", "UTF8", "us-ascii", "binary", "gzip, latin-1")],
)
def test_json_and_text_in_every_charset(charset: str | None, encoding: str | None) -> None:
    document = {"name": "grusse" if encoding == "us-ascii" else "grüße"}
    name = (charset or (encoding or "").rpartition(" ")[2]).strip('"')
    text = json.dumps(document, ensure_ascii=False)
    body = text.encode("utf-8" if name in ("binary", "") else name)
    body = gzip.compress(body) if encoding and "gzip" in encoding else body
    suffix = f"; charset={charset}" if charset else ""
    assert payload(body, encoding, f"{JSON}{suffix}") == document
    assert payload(body, encoding, f"text/plain{suffix}") == text


def test_the_charset_of_the_content_type_comes_first() -> None:
    assert payload("grüße".encode("utf-16"), "utf-8", "text/plain; charset=utf-16") == "grüße"
    assert refused(b"\xff", "ascii", "text/plain") == "bad_text"
    assert refused(b"\xff", "utf-16", JSON) == "bad_text"


def test_our_own_forms_are_read_with_a_charset_and_a_compression_too() -> None:
    body = b'{"i":"1","t":"B","p":{"a":1}}'
    for encoding in ("utf-8", "br", "zstd"):
        sent = COMPRESS[encoding](body) if encoding in COMPRESS else body
        assert decode(sent, JOB_JSON, encoding)[0].payload == {"a": 1}
    packed, kind = pack([Job(id="1"), Job(id="2")])
    assert [job.id for job in decode(COMPRESS["zstd"](packed), kind, "zstd")] == ["1", "2"]
    assert count_records(COMPRESS["zstd"](packed), kind, "zstd", max_records=50) == 50, "its first bytes do not say it"
