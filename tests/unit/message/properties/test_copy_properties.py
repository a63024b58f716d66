"""What a copy keeps of a message: whatever its property list is, what was there before is there after, byte by byte."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.properties import fields as f
from rabbitray.actors.message.properties.copy_properties import Keep, copy_properties
from rabbitray.actors.message.properties.field_table import entries
from rabbitray.actors.message.properties.fields import Fields, fields_of
from rabbitray.actors.message.properties.property_list import Properties, from_raw
from rabbitray.actors.publisher.amqp import frames
from tests.kit.raw_amqp import ONE_OF_EACH, entry, long, scalar, short, table, tables

SHORT = (f.CONTENT_TYPE, f.CONTENT_ENCODING, f.CORRELATION_ID, f.REPLY_TO, f.EXPIRATION, f.MESSAGE_ID, f.TYPE,
         f.USER_ID, f.APP_ID, f.CLUSTER_ID)  # fmt: skip
NEVER = (f.EXPIRATION, f.USER_ID, f.CLUSTER_ID)
APART = (f.HEADERS, f.DELIVERY_MODE)
KEPT_TYPES = {name: value for name, value in ONE_OF_EACH.items() if name != b"\0"}
SOME_OF_OURS = {h.KEY.encode(): long("S", b"k"), h.EXCHANGE.encode(): long("S", b"forged"), b"CC": long("A", b"")}

texts = (st.binary(max_size=8) | st.sampled_from([b"\xff" * 255, b"600000", "ä".encode() * 127])).map(short)
lists = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(SHORT, texts)
    | {
        f.HEADERS: tables | st.just(table(KEPT_TYPES | SOME_OF_OURS)),
        f.DELIVERY_MODE: st.sampled_from([b"\1", b"\2"]),
        f.PRIORITY: st.binary(min_size=1, max_size=1),
        f.TIMESTAMP: st.binary(min_size=8, max_size=8),
    },
)


def raw_of(fields: Fields) -> bytes:
    return f.FLAGS.pack(sum(fields)) + b"".join(fields[flag] for flag in f.ORDER if flag in fields)


def sent(kept_fields: Fields, kept_entries: bytes) -> Properties:
    """A copy with these, as its reader finds it."""
    header = frames.copied_header(0, kept_fields, frames.table({}, kept_entries))
    return from_raw(header[frames.CONTENT_BYTES :])


def named(raw: bytes) -> Counter[bytes]:
    """The entries of a header table, each as it stands there."""
    return Counter(raw[one.start : one.end] for one in entries(raw, 4, len(raw)))


@given(lists)
def test_any_property_list_is_on_the_copy_what_it_was(given_: Fields) -> None:
    kept = copy_properties(from_raw(raw_of(given_)), h.travels)
    assert kept.left == 0
    assert kept.came == given_
    found = fields_of(sent(kept.fields, kept.entries).raw)
    assert found is not None
    assert {flag: raw for flag, raw in found.items() if flag not in APART} == {
        flag: raw for flag, raw in given_.items() if flag not in (*APART, *NEVER)
    }
    assert found[f.DELIVERY_MODE] == b"\2"
    stays = {e: n for e, n in named(given_.get(f.HEADERS, table({}))).items() if h.travels(name_of(e))}
    assert dict(named(found[f.HEADERS])) == stays


def name_of(one: bytes) -> str:
    return one[1 : 1 + one[0]].decode("utf-8", "surrogateescape")


@given(lists, st.integers(0, 400), st.binary(max_size=3))
def test_one_that_cannot_be_told_apart_loses_what_cannot_be_read_and_says_so(
    given_: Fields, end: int, more: bytes
) -> None:
    """Whatever was cut off, or stands behind."""
    raw = raw_of(given_)[:end] + more
    kept = copy_properties(from_raw(raw), h.travels)
    whole = fields_of(raw)
    assert (kept.left == 0) == (whole is not None or raw == b"")
    back = sent(kept.fields, kept.entries)
    assert not {*NEVER} & (fields_of(back.raw) or {}).keys()
    if whole is None:
        came = from_raw(raw)
        texts = (came.content_type, came.content_encoding, came.message_id)
        assert (back.content_type, back.content_encoding, back.message_id) == tuple(
            text if text and len(text.encode()) <= 255 else None for text in texts
        )


def test_a_message_without_an_id_gets_one_and_every_copy_is_persistent() -> None:
    for raw in (b"\x10\x00\x01", b"\x00\x00", b"\x00\x80\x00"):
        kept = copy_properties(from_raw(raw), h.travels)
        assert kept.message_id(lambda: "new") == "new"
        assert sent(kept.fields, b"").raw == b"\x30\x80" + table({}) + b"\x02\x03new"
    kept = copy_properties(from_raw(b"\x00\x80\x01\xff"), h.travels)
    assert kept.message_id(lambda: "new") == "\xff", "as it was read, also where it is no UTF-8"


@pytest.mark.parametrize(
    ("keep", "left", "there"),
    [("all", 0, {f.TYPE, f.MESSAGE_ID}), ("properties", 2, {f.TYPE, f.MESSAGE_ID}), ("least", 3, {f.MESSAGE_ID})],
)
def test_where_not_all_fits_the_trace_and_what_the_message_is_called_stay(
    keep: Keep, left: int, there: set[int]
) -> None:
    trace = entry(h.TRACEPARENT.encode(), long("S", b"00-trace"))
    headers = table([entry(b"a", scalar("l", 1)), trace, entry(h.TRACESTATE.encode(), long("S", b"x" * 5_000))])
    properties = from_raw(raw_of({f.HEADERS: headers, f.MESSAGE_ID: short(b"m"), f.TYPE: short(b"t")}))
    kept = copy_properties(properties, h.travels, keep=keep)
    assert (kept.left, kept.fields.keys()) == (left, there)
    assert kept.entries == (headers[4:] if keep == "all" else trace)
    small = copy_properties(properties, h.travels, keep="all", most_bytes=4_000)
    assert (small.entries, small.left) == (trace, 2)
