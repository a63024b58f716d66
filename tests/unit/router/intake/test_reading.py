"""What the router reads of a message: headers are the producer's to write, so everything is clamped."""

from __future__ import annotations

import gzip
import time
from datetime import UTC, datetime
from typing import Any

import pamqp.decode
import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from rabbitray.actors.errors import EncodeError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.headers import WAIT_MOST_MS, table_bytes
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.keys import PROPERTY_FLAGS, parse_key_rule
from rabbitray.actors.message.parcel import MAX_ATTEMPT, Record, is_packed, pack_parcels, unpack_parcels
from rabbitray.actors.message.properties import fields as f
from rabbitray.actors.message.properties.property_list import Properties, from_raw
from rabbitray.actors.message.wire import MessageLimits, pack
from rabbitray.actors.publisher.amqp import frames
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.reading import (
    _COUNTED_AT_MOST,
    read_delivery,
    read_message,
)
from rabbitray.actors.router.settlement.copies import copy_of
from rabbitray.cluster.results.dead_letter_selection import replay_copy
from tests.kit.dead_letters import dead_letter, headers_sent
from tests.kit.deliveries import received
from tests.kit.raw_amqp import BEYOND, long, scalar
from tests.kit.raw_amqp import properties as raw_properties
from tests.kit.raw_amqp import table as raw_table

LIMITS = MessageLimits(max_message_bytes=1_000, max_header_bytes=4_096, max_records=100)
MEBIBYTES = "x" * (2 * 1024 * 1024)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def read(body: bytes = b"{}", headers: dict[str, Any] | None = None, **own: Any) -> Delivery:
    return read_delivery(received(body, headers, tag=7, **own), generation=3, consumer=2, limits=LIMITS)


def test_a_plain_message() -> None:
    sent = datetime(2026, 1, 2, tzinfo=UTC)
    found = read(b"abc", message_id="m", content_type=h.JSON, timestamp=sent)
    assert (found.tag, found.generation, found.consumer, found.size, found.records) == (7, 3, 2, 3, 1)
    assert found.parcel.message_id == "m"
    assert found.parcel.published_ms == int(sent.timestamp() * 1000)
    assert found.parcel.attempt == -1, "no header: the body decides"
    assert (found.refused, found.returned, found.due_ms, found.replays) == (None, False, 0, 0)


@pytest.mark.parametrize(
    ("forged", "read_as"),
    [
        (-1, 0),
        (0, 0),
        (3, 3),
        (10**9, MAX_ATTEMPT),
        (2**62, MAX_ATTEMPT),
        ("x", -1),
        ("3", -1),
        (MEBIBYTES, -1),
        (True, -1),
        (1.5, -1),
        (None, -1),
        (b"\xff", -1),
        ([1], -1),
        ({"a": 1}, -1),
    ],
)
def test_a_forged_attempt_is_clamped(forged: object, read_as: int) -> None:
    assert read(headers={h.ATTEMPT: forged}).parcel.attempt == read_as


@pytest.mark.parametrize("name", [h.DUE, h.FIRST_SEEN, h.PUBLISHED, h.REPLAYS, h.REPLAYED, h.RECORDS])
@pytest.mark.parametrize("forged", [-1, 10**30, 2**63 - 1, "x", MEBIBYTES, True, 1.5, None, b"\xff", [], {}])
def test_no_forged_number_gets_out_of_its_range(name: str, forged: object) -> None:
    found = read(headers={name: forged}, content_type=h.PACKED)
    now_ms = found.parcel.received_ms
    assert 0 <= found.due_ms <= now_ms + WAIT_MOST_MS
    assert 0 <= found.parcel.first_seen_ms <= now_ms
    assert 0 <= found.parcel.published_ms <= now_ms
    assert 0 <= found.replays <= MAX_ATTEMPT
    assert 1 <= found.records <= LIMITS.max_records


@pytest.mark.parametrize("headers", [None, {h.RECORDS: 1}, {h.RECORDS: 99}, {h.RECORDS: -5}])
@pytest.mark.parametrize("encoding", [None, "gzip"])
@pytest.mark.parametrize("kind", [h.PACKED, h.PACKED.upper(), f" {h.PACKED} ; charset=binary"])
def test_records_are_counted_in_the_body_whatever_the_header_says(
    headers: dict[str, Any] | None, encoding: str | None, kind: str
) -> None:
    body, _ = pack([Job(id=str(n)) for n in range(30)])
    sent = gzip.compress(body) if encoding else body
    found = read(sent, headers, content_type=kind, content_encoding=encoding)
    assert (found.records, is_packed(found.parcel)) == (30, True)


def test_a_compressed_message_weighs_what_it_says_it_holds() -> None:
    """As much as a worker gets when it reads it; a batch of bombs would be too much for one."""
    body = gzip.compress(b"x" * 900)
    assert read(body, content_encoding="gzip", content_type="text/plain").size == 900
    assert read(body, content_type="text/plain").size == len(body)
    assert read(gzip.compress(b"x" * 900_000), content_encoding="gzip").size == LIMITS.max_message_bytes


def test_what_is_not_packed_is_one_record() -> None:
    body, _ = pack([Job(id=str(n)) for n in range(30)])
    for kind in (h.MSGPACK, h.JSON, None, "", "x" * 200):
        assert read(body, {h.RECORDS: 50}, content_type=kind).records == 1
    assert read(body, content_type=h.PACKED, content_encoding="snappy").records == 1, "is never decoded"
    assert read(body, content_type=h.PACKED, content_encoding="br").records == 100, "its first bytes do not say it"
    assert read(body, {h.COMPRESSION: "gzip"}, content_type=h.JSON).parcel.content_encoding == "gzip"
    assert read(body, {h.COMPRESSION: "gzip"}, content_encoding="utf-8").parcel.content_encoding == "utf-8, gzip"
    assert read(body, {h.COMPRESSION: "high"}, content_encoding="utf-8").parcel.content_encoding == "utf-8"


@given(st.dictionaries(st.text(max_size=30), st.deferred(lambda: values), max_size=9))
def test_headers_are_never_reckoned_smaller_than_they_are(table: dict[str, Any]) -> None:
    try:
        written = frames.table(table)
    except EncodeError:  # a double that pamqp would write as a single
        reject()
    assert len(written) <= table_bytes(table, 10**9)


@pytest.mark.parametrize(
    ("key", "read_as"),
    [
        ("k", "k"),
        (b"bytes", "bytes"),
        ("", None),
        ("x" * 255, "x" * 255),
        ("x" * 256, None),
        (MEBIBYTES, None),
        (7, None),
        ([], None),
        (b"\xff\xfe", "\u00ff\u00fe"),
    ],
)
def test_a_key_is_text_of_bounded_length(key: object, read_as: str | None) -> None:
    assert read(headers={h.KEY: key}).parcel.key == read_as


@pytest.mark.parametrize("trace", ["", "x", TRACE + "0", TRACE[:-1], TRACE.upper(), 7, None, MEBIBYTES])
def test_only_a_whole_traceparent_is_taken(trace: object) -> None:
    assert read(headers={h.TRACEPARENT: trace}).parcel.traceparent is None
    assert read(headers={h.TRACEPARENT: TRACE}).parcel.traceparent == TRACE


def test_too_large_messages_are_refused_before_decoding() -> None:
    refused = read(b"x" * 1_001).refused
    assert refused is not None
    assert refused.startswith("too_large: body of 1,001 bytes")
    assert read(b"x" * 1_000).refused is None
    for table in ({"a": MEBIBYTES}, {"a": {"b": ["x" * 5_000]}}, {"x" * 255: "y" * 4_000}):
        refused = read(headers=table).refused
        assert refused is not None
        assert refused.startswith("too_large: headers")


@pytest.mark.parametrize(
    "table",
    [
        {"a": 1, "b": "x" * 100},
        {"a": [True] * 400},
        {"a": [True] * 500},
        {"a": [None] * 1_000},
        {"a": "x" * 4_082},
        {"a": "x" * 4_083},
        {"a": "x" * 4_200},
        {"": None, "b": {"": [[], {}]}},
    ],
)
def test_headers_are_too_large_whoever_read_them(table: dict[str, Any]) -> None:
    """The scanner knows how long a table was in its frame, pamqp does not."""
    sent = Properties(headers=table, header_bytes=len(frames.table(table)) - 4)
    scanned = read_message(sent, b"", tag=1, redelivered=False, generation=1, consumer=1, limits=LIMITS)
    assert scanned.refused == read(b"", table).refused
    assert (scanned.refused is None) == (table_bytes(table, 10**9) <= LIMITS.max_header_bytes)


@given(st.dictionaries(st.text(max_size=3), st.deferred(lambda: values), max_size=9))
def test_the_count_is_never_so_far_from_the_frame_that_it_would_have_to_be_made(table: dict[str, Any]) -> None:
    try:
        in_frame = len(frames.table(table)) - 4
    except EncodeError:
        reject()
    assert not table or table_bytes(table, 10**9) <= in_frame * _COUNTED_AT_MOST


def test_deep_headers_are_bounded() -> None:
    table: dict[str, Any] = {}
    inner = table
    for _ in range(200):
        inner["n"] = {}
        inner = inner["n"]
    assert read(headers=table).refused is None


def test_what_was_delivered_before_says_so_to_its_worker() -> None:
    """By the broker's flag, or as a copy of ours: of a retry, a wait, a record that was taken out, a replay."""
    assert not read().parcel.again
    assert not read(headers={h.PUBLISHED: 5, h.KEY: "k", h.FIRST_SEEN: "noise"}).parcel.again
    assert read(redelivered=True).parcel.again
    for table in ({h.ATTEMPT: 1}, {h.DUE: 5}, {h.FIRST_SEEN: 5}, {h.FIRST_SEEN: 5, h.REPLAYS: 1}):
        (crossed,) = unpack_parcels(pack_parcels([read(headers=table).parcel]))
        assert crossed.again


def test_a_message_from_a_rung_is_no_arrival() -> None:
    assert read(headers={h.ATTEMPT: 1}).returned
    assert read(headers={h.DUE: 5}).returned


@pytest.mark.parametrize("year", [1, 1969, 9999])
def test_odd_time_stamps_are_noise(year: int) -> None:
    found = read(timestamp=datetime(year, 1, 1, tzinfo=UTC)).parcel
    assert 0 <= found.published_ms <= found.received_ms


DAY_MS = 86_400_000
MOMENTS = st.integers(-(2**63), 2**63 - 1) | st.integers(-40, 40).map(
    lambda days: time.time_ns() // 10**6 + days * DAY_MS
)


@given(MOMENTS, st.none() | MOMENTS, st.none() | MOMENTS)
def test_nothing_waits_longer_than_30_days_after_it_was_first_seen_or_replayed(
    due: int, first_seen: int | None, replayed: int | None
) -> None:
    """A time in the future counts as now, and the copies carry what was read: so each turn of a rung is bound by it."""
    given = {h.DUE: due, h.FIRST_SEEN: first_seen, h.REPLAYED: replayed}
    found = read(headers={name: value for name, value in given.items() if value is not None})
    now_ms = found.parcel.received_ms
    since_ms = now_ms if first_seen is None or first_seen <= 0 else min(first_seen, now_ms)
    since_ms = max(since_ms, min(replayed or 0, now_ms))
    assert found.due_ms == max(0, min(due, since_ms + WAIT_MOST_MS))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from([h.KEY, h.ATTEMPT, h.FIRST_SEEN, h.PUBLISHED, h.DUE, h.REPLAYS, h.RECORDS, h.TRACEPARENT, "x"])


@given(st.dictionaries(names, values, max_size=9), st.binary(max_size=40))
def test_nothing_that_a_producer_writes_raises_or_breaks_the_parcel(table: dict[str, Any], body: bytes) -> None:
    found = read(body, table)
    assert unpack_parcels(pack_parcels([found.parcel])) == [found.parcel], "a worker can read what the router sends"


def test_the_timestamp_property_counts_whoever_read_it() -> None:
    """pamqp gives a datetime, the scanner whole seconds; a producer's own clock is all that some messages have."""

    def published(stamp: object) -> int:
        properties = Properties(timestamp=stamp)  # type: ignore[arg-type] # noise is tried too
        found = read_message(
            properties, b"", tag=1, redelivered=False, generation=1, consumer=1, limits=MessageLimits()
        )
        return found.parcel.published_ms

    assert published(1_764_000_000) == 1_764_000_000_000
    assert published(datetime(2025, 11, 24, 16, 0, tzinfo=UTC)) == 1_764_000_000_000
    assert [published(noise) for noise in (None, -5, True, "x", datetime(2025, 1, 1))] == [0, 0, 0, 0, 0]  # noise


@pytest.mark.parametrize("ahead_s", [0, 3_600, -3_600])
def test_a_producer_whose_clock_is_ahead_is_known(ahead_s: int) -> None:
    """Its message counts as published now, so that nothing is negative; by how much that is wrong is kept."""
    stamp = int(time.time() * 1000) + ahead_s * 1_000
    for found in (read(b"{}", {h.PUBLISHED: stamp}), read(b"{}", {h.PUBLISHED: stamp * 1_000})):  # ms, and us
        parcel = found.parcel
        assert parcel.published_ms == min(stamp, parcel.received_ms)
        assert found.ahead_ms == pytest.approx(max(0, ahead_s) * 1_000, abs=2_000)


NOW_MS = 1_767_312_000_000
"""2 January 2026."""


@pytest.mark.parametrize("unit", [1_000, 1, 1 / 1_000, 1 / 1_000_000], ids=["s", "ms", "us", "ns"])
@given(moment=st.integers(h.EARLIEST_MS // 1_000, NOW_MS // 1_000).map(lambda seconds: seconds * 1_000))
def test_a_time_is_known_in_whatever_unit_it_was_written(unit: float, moment: int) -> None:
    """To the millisecond; and in no other unit is it a time of this age."""
    written = moment // int(unit) if unit >= 1 else moment * round(1 / unit)
    assert h.moment_ms(written, NOW_MS) == moment


@pytest.mark.parametrize(
    ("stamp", "read_as"),
    [
        (NOW_MS + 60_000, NOW_MS),  # a clock that is a minute fast
        (NOW_MS // 1_000 + 60, NOW_MS),
        (NOW_MS + 86_400_001, 0),  # more than a day
        (32_503_680_000, 0),  # the year 3000, in seconds
        (32_503_680_000_000, 0),
        (253_402_300_800_000, 0),  # the year 10000
        (h.EARLIEST_MS - 1, 0),
        (h.EARLIEST_MS, h.EARLIEST_MS),
        (0, 0),
        (5, 0),
        (-1, 0),
        (-NOW_MS, 0),
        (2**63, 0),
        (2**64 - 62_135_596_800, 0),  # the year 1, as .NET writes it
        (True, 0),
        (1.7e9, 0),
        ("1767312000", 0),
        (None, 0),
    ],
)
def test_what_is_no_time_of_this_age_is_none(stamp: object, read_as: int) -> None:
    assert h.moment_ms(stamp, NOW_MS) == read_as


PLAUSIBLE = st.integers(-90, 2).map(lambda days: time.time_ns() // 10**6 + days * DAY_MS)
STAMPS = (
    st.integers(0, 2**64 - 1)
    | st.integers(0, 2**34)
    | PLAUSIBLE
    | PLAUSIBLE.map(lambda ms: ms // 1_000)
    | PLAUSIBLE.map(lambda ms: ms * 1_000)
    | PLAUSIBLE.map(lambda ms: ms * 10**6)
    | st.sampled_from([h.SECONDS_MOST, h.SECONDS_MOST + 1, *BEYOND])
)


@given(STAMPS)
def test_both_readers_know_the_same_time(stamp: int) -> None:
    """pamqp makes a datetime of the timestamp property, where there is one; ours reads the bytes."""
    raw = stamp.to_bytes(8, "big")
    [ours, full] = [
        read_message(properties, b"", tag=1, redelivered=False, generation=1, consumer=1, limits=LIMITS).parcel
        for properties in (from_raw(b"\x00\x40" + raw), Properties(timestamp=_by_pamqp(raw)))
    ]
    assert 0 <= ours.published_ms <= ours.received_ms
    if _by_pamqp(raw) is not None:
        assert abs(ours.published_ms - full.published_ms) <= full.received_ms - ours.received_ms + 1


def _by_pamqp(raw: bytes) -> Any:  # Any: in place of whole seconds
    """A datetime; None where pamqp knows none: then the connection would be closed, if the guard let it through."""
    try:
        return pamqp.decode.timestamp(raw)[1]
    except (ValueError, OverflowError, OSError):
        return None


def test_a_replayed_message_counts_from_its_replay_and_its_copies_keep_both_times() -> None:
    now_ms = time.time_ns() // 10**6
    sent_ms, seen_ms = now_ms - 900_000, now_ms - 890_000
    letter = dead_letter({h.PUBLISHED: sent_ms, h.FIRST_SEEN: seen_ms, h.ATTEMPT: 1, h.KEY: "k"})
    replayed = read_delivery(
        received(b"x", headers_sent(replay_copy(letter, "q"))), generation=1, consumer=1, limits=LIMITS
    )
    assert now_ms <= replayed.parcel.published_ms <= replayed.parcel.received_ms
    assert replayed.parcel.first_seen_ms == seen_ms
    copy = copy_of(replayed, Record(attempt=0), {h.ATTEMPT: 1}, Topology(queue="q"), "q")
    assert (copy.headers[h.PUBLISHED], copy.headers[h.FIRST_SEEN]) == (sent_ms, seen_ms)
    assert copy.headers[h.REPLAYED] == replayed.parcel.published_ms
    again = read_delivery(received(b"x", copy.headers), generation=1, consumer=1, limits=LIMITS)
    assert again.parcel.published_ms == replayed.parcel.published_ms, "a retry of it waits since the replay, too"


def by_scanner(headers: dict[bytes, bytes], limits: MessageLimits = LIMITS) -> Delivery:
    properties = from_raw(raw_properties(raw_table(headers)))
    return read_message(properties, b"", tag=1, redelivered=False, generation=1, consumer=1, limits=limits)


def test_headers_that_cannot_be_read_are_refused_and_the_others_are_there() -> None:
    found = by_scanner({h.KEY.encode(): long("S", b"k"), b"when": scalar("T", BEYOND[0])})
    assert found.refused == f"unreadable_headers: header 'when': the time stamp {BEYOND[0]}, beyond the year 9999"
    assert (found.parcel.key, found.parcel.message_id) == ("k", "m")


def test_too_large_comes_before_unreadable() -> None:
    found = by_scanner({b"big": long("x", bytes(5_000)), b"when": scalar("T", BEYOND[0])})
    assert found.refused == "too_large: headers of more than 4,096 bytes"


def test_more_values_than_any_headers_may_have_are_refused() -> None:
    many = {b"%05d" % number: scalar("V") for number in range(8_193)}
    assert by_scanner(many, MessageLimits()).refused == "too_large: headers of more than 65,536 bytes"
    assert by_scanner(many, MessageLimits(max_header_bytes=10**6)).refused is not None


@given(st.binary(min_size=1, max_size=16), st.binary(min_size=1, max_size=16))
def test_two_binary_ids_are_two(one: bytes, other: bytes) -> None:
    """.NET writes the bytes of a Guid, others a packed number. As one identity the second job would be a duplicate."""
    assume(one != other and not _is_text(one) and not _is_text(other))

    def names(raw: bytes) -> tuple[str | None, str | None]:
        properties = from_raw(raw_properties(raw_table({h.KEY.encode(): long("x", raw)}), raw))
        found = read_message(properties, b"", tag=1, redelivered=False, generation=1, consumer=1, limits=LIMITS)
        return found.parcel.key, found.parcel.message_id

    assert not set(names(one)) & set(names(other))


def _is_text(raw: bytes) -> bool:
    try:
        return raw.decode() is not None
    except UnicodeDecodeError:
        return False


def by_rule(text: str, headers: dict[bytes, bytes] | None = None, raw: bytes | None = None) -> Delivery:
    """A message with these headers, or with this property list, as the scanner has it."""
    properties = from_raw(raw_properties(raw_table(headers or {})) if raw is None else raw)
    return read_message(
        properties,
        b"{}",
        tag=1,
        redelivered=False,
        generation=1,
        consumer=1,
        limits=LIMITS,
        rule=parse_key_rule(text),
    )


def test_a_rule_names_a_header() -> None:
    headers = {b"order-id": long("S", b"o-7"), b"n": scalar("l", 7), b"flag": scalar("t", True)}
    assert [by_rule(f"header:{name}", headers).parcel.key for name in ("order-id", "n")] == ["o-7", "7"]
    found = by_rule("header:flag", headers).parcel
    assert (found.key, found.missing) == (None, "header 'flag' is true or false")
    assert by_rule("default", headers).parcel.missing == ""


@pytest.mark.parametrize("name", PROPERTY_FLAGS)
def test_a_rule_names_a_property(name: str) -> None:
    raw = f.FLAGS.pack(PROPERTY_FLAGS[name]) + b"\x03k-1"
    assert by_rule(f"property:{name}", raw=raw).parcel.key == "k-1"
    other = next(one for one in PROPERTY_FLAGS if one != name)
    found = by_rule(f"property:{other}", raw=raw).parcel
    assert (found.key, found.missing) == (None, f"there is no property {other}")


def test_a_header_of_ours_says_no_user_id_that_would_be_a_key() -> None:
    """Producers can write it, and RabbitMQ checks the property alone."""
    assert by_rule("property:user_id", {h.USER_ID.encode(): long("S", b"anna")}).parcel.key is None


def test_a_producer_s_key_header_counts_by_default_alone_and_a_copy_s_always() -> None:
    forged = {h.KEY.encode(): long("S", b"forged"), b"order-id": long("S", b"o-7")}
    assert by_rule("default", forged).parcel.key == "forged"
    assert by_rule("header:order-id", forged).parcel.key == "o-7"
    assert by_rule("body:/id", forged).parcel.key is None
    copy = forged | {h.ATTEMPT.encode(): scalar("l", 1)}
    assert by_rule("header:order-id", copy).parcel.key == by_rule("body:/id", copy).parcel.key == "forged"


def test_an_id_that_rabbitmq_converted_from_amqp_10_stands_for_a_message_id_that_is_not_there() -> None:
    headers = {h.CONVERTED_ID.encode(): long("x", b"\xff\x01")}
    raw = raw_properties(raw_table(headers))
    without_id = b"".join([f.FLAGS.pack(f.HEADERS), raw_table(headers)])
    assert by_rule("default", raw=raw).parcel.message_id == "m"
    for rule in ("default", "property:message_id"):
        assert by_rule(rule, raw=without_id).parcel.message_id == "0xff01"
    assert by_rule("property:message_id", raw=without_id).parcel.key == "0xff01"
