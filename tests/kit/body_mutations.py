"""Damage to a body, as a strategy of Hypothesis: bytes cut out, put in, doubled; tokens of JSON and msgpack."""

from __future__ import annotations

from hypothesis import strategies as st

TOKENS = (
    *(b'"', b"\\", b'\\"', b"[", b"]", b"{", b"}", b",", b":", b" :", b"null", b"1e999", b"\xef\xbb\xbf", b"\\ud800"),
    *(b"\x80", b"\x81", b"\x90", b"\x91", b"\xa0\xc4\x04", b"\xc1", b"\xc4\xff", b"\xc6\xff\xff\xff\xff", b"\xd6\xff"),
    *(b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xde\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc7\x00\xff", b"\xce"),
)


@st.composite
def mutated(draw: st.DrawFn, body: bytes) -> bytes:
    """`body` after one to four damages."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 20)))
        middle = draw(st.sampled_from(TOKENS) | st.binary(max_size=4) | st.just(body[start:end] * 3))
        body = body[:start] + middle + body[end:]
    return body
