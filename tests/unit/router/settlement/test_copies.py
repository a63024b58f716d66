"""The copies that leave for a rung or the dead letters: their identity, and headers that can travel."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rabbitray.actors.errors import EncodeError, RefusedError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.properties.field_table import MOST_VALUES, entries
from rabbitray.actors.message.properties.fields import CORRELATION_ID, TYPE, fields_of, text_in
from rabbitray.actors.message.properties.property_list import from_raw, priority_of
from rabbitray.actors.message.properties.route import route_of
from rabbitray.actors.message.properties.sent_with import EXPIRATION_MOST_MS
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.publisher import EncodedMessage, PublisherConfig
from rabbitray.actors.publisher.amqp import frames
from rabbitray.actors.publisher.message_maker import Maker
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.reading import read_message
from rabbitray.actors.router.settlement.copies import (
    FOREIGN_MOST_BYTES,
    CopyOutbox,
    copy_of,
    dead_letter_rows,
    spared_before,
)
from rabbitray.actors.router.settlement.retries import Rung
from rabbitray.cluster.results.dead_letters import readable
from tests.kit.dead_letters import AT, headers_sent, properties_sent
from tests.kit.deliveries import as_it_came, delivery
from tests.kit.raw_amqp import BEYOND, ONE_OF_EACH, long, scalar, short, table
from tests.kit.raw_amqp import properties as raw_properties

TOPOLOGY = Topology(queue="q", rung_delays_ms=(100,))
FRAME = 131_072
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def failure(**changes: Any) -> Failure:
    plain = {"verdict": "dead", "reason": "r", "error": "e", "error_class": "E", "category": "permanent"}
    return Failure(position=0, **(plain | changes))


def copied(one: Delivery, failed: Failure, **own: Any) -> EncodedMessage:
    return copy_of(one, failed, own, TOPOLOGY, TOPOLOGY.rung(100))


@pytest.mark.parametrize("key", ["k", None])
def test_a_copy_keeps_the_message_id_of_the_producer(key: str | None) -> None:
    """People know it by that id; where the body was not read and no key is known, it may be the identity."""
    copy = copied(delivery(1, message_id="m"), failure(key=key))
    assert (copy.message_id, copy.headers.get(h.KEY)) == ("m", key)


@pytest.mark.parametrize("priority", [None, 0, 9])
def test_a_copy_keeps_the_priority_of_its_message(priority: int | None) -> None:
    came = as_it_came({"a": 1}, message_id="m", priority=priority)
    assert priority_of(properties_sent(copied(delivery(1, properties=came), failure(key="k")))) == priority


def test_a_copy_of_a_message_without_an_id_gets_one() -> None:
    assert copied(delivery(1, message_id=None), failure(key="k")).message_id


def test_a_record_alone_never_takes_the_key_header_of_its_packed_message() -> None:
    table = {h.KEY: "forged for all", h.RECORDS: 2}
    came = as_it_came(
        table, content_type=h.PACKED, content_encoding="gzip", correlation_id="c", message_type="order", priority=3
    )
    one = delivery(1, key="forged for all", message_id=None, properties=came)
    copy = copied(one, failure(key=None, body=b"record", content_type=h.MSGPACK))
    assert not {h.KEY, h.RECORDS} & copy.headers.keys()
    assert copy.body == b"record"
    sent = properties_sent(copy)
    assert (sent.content_type, sent.content_encoding) == (h.MSGPACK, None)
    fields = fields_of(sent.raw) or {}
    assert [text_in(fields, flag) for flag in (CORRELATION_ID, TYPE)] == ["c", "order"]
    assert priority_of(sent) == 3


@pytest.mark.parametrize(("named", "stays"), [("gzip", False), ("application/x-gzip", False), ("of files", True)])
def test_a_record_alone_is_not_said_to_be_compressed_any_more(named: str, stays: bool) -> None:
    """kombu says so in a header, by which a copy would be decompressed again."""
    one = delivery(1, properties=as_it_came({"compression": named, "tenant": "a"}, content_type=h.PACKED))
    alone = copied(one, failure(body=b"record", content_type=h.MSGPACK))
    assert headers_sent(alone).get("compression") == (named if stays else None)
    assert headers_sent(alone)["tenant"] == "a"
    assert headers_sent(copied(one, failure()))["compression"] == named


def test_headers_of_the_producer_travel_on() -> None:
    one = delivery(1, properties=as_it_came({"tenant": "a", "x-death": [{}], "CC": ["q"]}))
    headers = headers_sent(copied(one, failure(key="k")))
    assert headers["tenant"] == "a"
    assert not {"x-death", "CC", h.HEADERS_CUT} & headers.keys()


@pytest.mark.parametrize("foreign", ["x" * 70_000, "ä" * 40_000, [""] * 20_000, {str(n): n for n in range(10_000)}])
def test_headers_that_are_too_large_stay_behind_and_ours_travel(foreign: Any) -> None:
    table = {h.REPLAYS: 3, h.TRACEPARENT: TRACE, h.RECORDS: 5, "tenant": "a", "big": foreign}
    one = delivery(1, properties=as_it_came(table), traceparent=TRACE, replays=3, records=5)
    headers = headers_sent(copied(one, failure(key="k"), **{h.REASON: "too_large"}))
    ours = {h.REPLAYS: 3, h.TRACEPARENT: TRACE, h.KEY: "k", h.REASON: "too_large", h.HEADERS_CUT: 2, h.RECORDS: 5}
    assert ours.items() <= headers.items()
    assert "tenant" not in headers


def test_what_travels_leaves_room_in_the_frame_for_ours() -> None:
    assert FOREIGN_MOST_BYTES <= FRAME - 32 * 1024


def test_texts_that_are_no_utf_8_stay_as_they_are_and_the_message_is_known_by_them() -> None:
    raw = b"\x80\x80" + short(b"\xff" * 255) + short(b"\xfe" * 255)
    copy = copied(delivery(1, properties=from_raw(raw), message_id="\u00fe" * 255), failure(key=None))
    sent = properties_sent(copy)
    assert short(b"\xff" * 255) in sent.raw
    assert copy.message_id == sent.message_id == "\u00fe" * 255


class Picky:
    """A publisher that may refuse a producer's headers."""

    def __init__(self) -> None:
        self.refuses_entries = False
        self.sent: list[EncodedMessage] = []

    async def publish_message(self, message: EncodedMessage) -> None:
        if self.refuses_entries and message.entries:
            raise EncodeError("no frame could hold it")
        if h.KEY not in message.headers:
            raise RefusedError("full")
        self.sent.append(message)


@pytest.mark.parametrize("foreign", ["a", "x" * 70_000])
async def test_how_often_a_failure_was_not_charged_travels_on_until_the_end(foreign: str) -> None:
    sender = Picky()
    outbox = CopyOutbox(sender, Topology(queue="q", rung_delays_ms=(100,)))
    await outbox.retry(delivery(1), failure(key="k"), Rung(delay_ms=100, attempt=2, spared=7))
    assert (sender.sent[0].headers[h.SPARED], sender.sent[0].headers[h.ATTEMPT]) == (7, 2)
    one = delivery(1, properties=as_it_came({h.SPARED: 7, "tenant": foreign}))
    assert spared_before(one) == 7
    await outbox.retry(one, failure(key="k"), Rung(delay_ms=100, attempt=2, due_ms=1))
    assert sender.sent[1].headers[h.SPARED] == 7, "it was not due yet"


@pytest.mark.parametrize(("written", "read"), [(-1, 0), ("7", 0), (True, 0), (None, 0), (10**9, 1_000)])
def test_what_a_producer_writes_there_is_clamped(written: object, read: int) -> None:
    assert spared_before(delivery(1, properties=as_it_came({h.SPARED: written}))) == read


SMALLEST_FRAME = 4_096  # that AMQP allows
LONGEST = "\U0001f600" * 255  # characters, of four bytes each
OWN_NUMBERS = (h.FIRST_SEEN, h.PUBLISHED, h.DUE, h.HOPS, h.SPARED, h.REPLAYS, h.REPLAYED, h.RECORDS, h.ATTEMPT)


class Framed:
    """A publisher whose broker has agreed on frames of this size."""

    def __init__(self, frame_max: int) -> None:
        self._frame_max = frame_max
        self._maker = Maker(PublisherConfig(url="amqp://nowhere/", queue="jobs"))
        self.sent: list[EncodedMessage] = []

    async def publish_message(self, message: EncodedMessage) -> None:
        if not frames.header_fits(self._maker.message(message).header, self._frame_max):
            raise EncodeError("no frame could hold it")
        self.sent.append(message)


def longest(table: dict[str, Any]) -> Delivery:
    """A message of which everything that is ours, and every property, is as long as it can be."""
    texts = ("message_id", "content_type", "content_encoding", "correlation_id", "reply_to", "message_type", "app_id",
             "user_id")  # fmt: skip
    came = as_it_came(table, expiration="1" * 255, timestamp=AT, priority=1, **dict.fromkeys(texts, "x" * 255))
    return delivery(
        1, message_id="x" * 255, traceparent=TRACE, key=LONGEST, published_ms=2**41, first_seen_ms=2**41,
        replays=1_000, records=1_000, properties=came, route=short(b"e" * 255) + short(b"k" * 255),
    )  # fmt: skip


@pytest.mark.parametrize("frame_max", [SMALLEST_FRAME, FRAME])
@pytest.mark.parametrize("text", ["x" * 9_000, "\U0001f600" * 9_000, "\ud800" * 9_000])
async def test_our_own_headers_fit_any_frame_at_their_largest(text: str, frame_max: int) -> None:
    """Else the copy is refused again and again, and its message given back for ever."""
    own = dict.fromkeys(OWN_NUMBERS, 2**62) | dict.fromkeys((h.ORIGIN, h.KEY, h.ERROR, h.REASON), LONGEST)
    one = longest(own | {"foreign": "x" * 60_000, h.TRACEPARENT: TRACE, h.TRACESTATE: "x" * 150})
    sender = Framed(frame_max)
    outbox = CopyOutbox(sender, Topology(queue="q" * 245, rung_delays_ms=(100,)))
    dead = failure(key=LONGEST, error=text, error_class=text, attempt=1_000)
    await outbox.park(one, dead, reason=text)
    await outbox.retry(one, dead, Rung(delay_ms=100, attempt=1_000, due_ms=2**41, spared=1_001, hops=10**9))
    parked, retried = sender.sent
    assert ("foreign" in headers_sent(parked)) == (frame_max > 60_000)
    assert (h.EXCHANGE in parked.headers) == (len(properties_sent(parked).raw) > SMALLEST_FRAME)
    assert (retried.headers[h.KEY], parked.headers[h.KEY]) == (LONGEST, LONGEST), "the identity is never cut"
    assert all(len(str(value).encode()) <= 1_020 for name, value in parked.headers.items() if name.startswith(h.OURS))


forged = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(width=32) | st.text(max_size=300)
    | st.binary(max_size=300) | st.sampled_from([LONGEST, 2**63 - 1, time.time_ns() // 10**6]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def arrived(table: dict[str, Any]) -> Delivery:
    """A message that came as copies come."""
    found = read_message(
        as_it_came(table, message_id="m"),
        b"{}",
        tag=1,
        redelivered=False,
        generation=1,
        consumer=1,
        limits=MessageLimits(),
    )
    found.route = route_of("", TOPOLOGY.queue)
    return found


own_names = st.sampled_from([*sorted(h._OURS), h.TRACEPARENT, h.TRACESTATE, "x-death", "x-rabbitray-later"])


@given(st.dictionaries(own_names, forged, max_size=12), st.none() | own_names)
@example(dict.fromkeys((h.FIRST_SEEN, h.PUBLISHED, h.REPLAYED, h.HOPS, h.SPARED), 2**62), None)
def test_a_copy_carries_what_was_read_of_ours_and_never_what_was_written(
    table: dict[str, Any], large: str | None
) -> None:
    """And reading it again gives the same: nothing that a producer wrote gets larger from turn to turn."""
    table |= {large: "x" * 70_000} if large else {}
    first = arrived(table)
    copy = copied(first, failure(key=None))
    now_ms = first.parcel.received_ms
    for name in (h.FIRST_SEEN, h.PUBLISHED, h.REPLAYED):
        assert 0 <= copy.headers.get(name, 0) <= now_ms
    for name in (h.SPARED, h.REPLAYS, h.RECORDS):
        assert 0 <= copy.headers.get(name, 0) <= 1_000
    assert 0 <= copy.headers.get(h.EXPIRES, 0) <= now_ms + EXPIRATION_MOST_MS
    for name in (h.EXCHANGE, h.ROUTING_KEY, h.USER_ID):
        assert len(copy.headers.get(name, "")) <= 255
    assert not {h.DUE, h.ERROR, h.ATTEMPT, h.PRIORITY} & copy.headers.keys()
    assert len(frames.table(copy.headers)) <= FOREIGN_MOST_BYTES + SMALLEST_FRAME
    again = arrived(headers_sent(copy))
    sent, sent_again = (sorted(headers_sent(one).items()) for one in (copy, copied(again, failure(key=None))))
    assert repr(sent_again) == repr(sent)  # a NaN is not equal to itself


async def test_any_other_refusal_is_told() -> None:
    outbox = CopyOutbox(Picky(), Topology(queue="q"))
    with pytest.raises(RefusedError):
        await outbox.park(delivery(1), failure(key=None), "r")


# what the producer wrote travels as it stood in its frame


def with_raw(headers: dict[bytes, bytes], **changes: Any) -> Delivery:
    """A delivery with these headers, as the intake reads it."""
    return delivery(1, properties=from_raw(raw_properties(table(headers))), **changes)


def on_the_wire(copy: EncodedMessage) -> dict[bytes, bytes]:
    """The headers of a copy as they stand in its frame."""
    written = frames.table(copy.headers, copy.entries)
    return {one.name: written[one.at : one.end] for one in entries(written, 4, len(written))}


def test_a_header_is_on_the_copy_what_it_was_of_every_type() -> None:
    ours = {h.KEY.encode(): long("S", b"old"), h.ATTEMPT.encode(): scalar("b", 1), b"x-death": long("A", b"")}
    copy = copied(with_raw(ONE_OF_EACH | ours), failure(key="k"), **{h.ATTEMPT: 2})
    found = on_the_wire(copy)
    assert {name: found.pop(name) for name in ONE_OF_EACH} == ONE_OF_EACH
    assert found.keys() == {h.KEY.encode(), h.ATTEMPT.encode(), h.FIRST_SEEN.encode()}
    assert (copy.headers[h.KEY], copy.headers[h.ATTEMPT]) == ("k", 2)


def test_headers_that_nobody_can_read_are_on_the_copy_and_in_the_row() -> None:
    odd = {b"when": scalar("T", BEYOND[0]), b"\xff": scalar("V"), b"tenant": long("S", b"a")}
    one = with_raw(odd)
    found = on_the_wire(copied(one, failure(key="k")))
    assert odd.items() <= found.items()
    [row] = dead_letter_rows([(one, failure(key="k"), "unreadable_headers")], "q").to_pylist()
    assert row["raw_properties"] == raw_properties(table(odd))
    assert json.loads(row["headers"]) == {"tenant": "a"}


def test_the_row_of_a_message_with_more_than_its_columns_say_has_the_rest() -> None:
    came = as_it_came({"tenant": "a"}, message_id="m", correlation_id="c", timestamp=AT, priority=3)
    one = delivery(1, properties=came, route=route_of("shop", "order.created"))
    [row] = dead_letter_rows([(one, failure(key="k"), "r")], "q").to_pylist()
    assert row["raw_properties"] == came.raw
    headers = {"tenant": "a", h.EXCHANGE: "shop", h.ROUTING_KEY: "order.created"}
    assert json.loads(row["headers"]) == headers
    shown = readable(row)
    stamp = int(AT.timestamp())
    assert shown["properties"] == {"correlation_id": "c", "timestamp": stamp, "priority": 3}
    assert shown["headers"] == headers


def test_the_row_of_what_was_read_keeps_no_bytes_of_it() -> None:
    [row] = dead_letter_rows([(with_raw(ONE_OF_EACH), failure(key="k"), "r")], "q").to_pylist()
    assert row["raw_properties"] is None


def test_of_a_table_that_is_too_large_ours_travel() -> None:
    """So many are counted at most."""
    many = {b"%05d" % number: scalar("l", number) for number in range(10_000)}
    one = with_raw({h.REPLAYS.encode(): scalar("b", 3), h.KEY.encode(): long("S", b"k")} | many, replays=3)
    copy = copied(one, failure(key="k"))
    assert (copy.headers[h.HEADERS_CUT], copy.headers[h.REPLAYS], copy.entries) == (MOST_VALUES - 2, 3, b"")


async def test_a_copy_that_does_not_fit_its_frame_leaves_the_entries_behind() -> None:
    sender = Picky()
    sender.refuses_entries = True
    outbox = CopyOutbox(sender, Topology(queue="q", rung_delays_ms=(100,)))
    await outbox.retry(with_raw(ONE_OF_EACH), failure(key="k"), Rung(delay_ms=100, attempt=2))
    [sent] = sender.sent
    assert (sent.entries, sent.headers[h.HEADERS_CUT]) == (b"", len(ONE_OF_EACH))
