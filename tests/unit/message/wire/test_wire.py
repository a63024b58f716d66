"""What a user gets from the wire format: nothing lost, nothing wrong, nothing that hurts the reader."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import uuid
import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rabbitray.actors.errors import ConfigurationError, DecodeError, EncodeError
from rabbitray.actors.message import wire
from rabbitray.actors.message.headers import JOB_JSON, JOB_MSGPACK, JSON, MSGPACK, PACKED
from rabbitray.actors.message.job import Job, uuid7
from rabbitray.actors.message.wire import Form, MessageLimits, TypeCodes, decode, encode, pack

FORMS: tuple[Form, ...] = ("msgpack", "compact_json", "verbose_json")
NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)  # 1735819200, as in the report
REFERENCE = Job(
    id="550e8400-e29b-41d4-a716-446655440000",
    user_id="user-123",
    message_type="BIRTHDAY",
    scheduled_at=NOON,
)
VERBOSE_REFERENCE = {
    "messageId": "550e8400-e29b-41d4-a716-446655440000",
    "userId": "user-123",
    "messageType": "BIRTHDAY",
    "scheduledSendTime": "2026-01-02T12:00:00.000Z",
    "timestamp": 1735819200000,
    "retryCount": 0,
}
COMPACT_REFERENCE = {
    "i": "550e8400-e29b-41d4-a716-446655440000",
    "u": "user-123",
    "t": "B",
    "s": 1735819200,
    "r": 0,
}

texts = st.text(st.characters(codec="utf-8"), max_size=63)
ids = st.one_of(
    st.uuids().map(str),
    st.uuids().map(lambda u: str(u).upper()),
    st.uuids().map(lambda u: u.hex),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=63),
    st.just("x" * 255),
)
types = st.one_of(
    st.sampled_from(["BIRTHDAY", "ANNIVERSARY", "", "B", "A", "Z", "=B", "==", "x"]),
    texts.filter(str.isprintable),
)
zones = st.just(UTC) | st.integers(-82_800, 82_800).map(lambda s: timezone(timedelta(seconds=s)))
times = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=zones)
json_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)


def nested(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=12,
    )


def jobs(payloads: st.SearchStrategy[Any]) -> st.SearchStrategy[Job]:
    return st.builds(
        Job,
        id=ids,
        user_id=st.none() | texts,
        message_type=types,
        scheduled_at=st.none() | times,
        timestamp_ms=st.none() | st.integers(0, 2**63 - 1),
        retry_count=st.integers(0, 1_000_000),
        payload=payloads,
    )


json_jobs = jobs(nested(json_scalars))
any_jobs = jobs(nested(json_scalars | st.binary(max_size=20) | st.floats(allow_nan=False)))


def decoded(body: bytes, content_type: str | None, encoding: str | None = None) -> list[Job] | DecodeError:
    """What a reader gets; any exception but DecodeError fails the test."""
    try:
        return decode(body, content_type, encoding)
    except DecodeError as error:
        return error


# -- sizes and shapes of the report


def test_reference_entry_takes_at_most_50_bytes_against_196() -> None:
    body, content_type = encode(REFERENCE)
    assert content_type == JOB_MSGPACK
    assert len(body) <= 50
    assert len(json.dumps(VERBOSE_REFERENCE)) == 196


def test_compact_json_is_the_report_s_document() -> None:
    body, content_type = encode(REFERENCE, form="compact_json")
    assert (json.loads(body), content_type, len(body)) == (COMPACT_REFERENCE, JOB_JSON, 88)


def test_verbose_json_is_the_report_s_document() -> None:
    body = json.dumps(VERBOSE_REFERENCE).encode()
    [job] = decode(body, JSON)
    assert json.loads(encode(job, form="verbose_json")[0]) == VERBOSE_REFERENCE


def test_msgpack_keys_are_the_report_s_letters() -> None:
    document = msgpack.unpackb(encode(REFERENCE)[0])
    assert document.pop("") == zlib.crc32(encode(REFERENCE)[0][:-7]).to_bytes(4, "big")
    assert document == {
        "i": uuid.UUID(str(REFERENCE.id)).bytes,
        "u": "user-123",
        "t": "B",
        "s": 1735819200,
    }


# -- round trips


@given(any_jobs)
def test_msgpack_round_trip_loses_nothing(job: Job) -> None:
    assert decode(*encode(job)) == [job]


@given(json_jobs, st.sampled_from(["compact_json", "verbose_json"]))
def test_json_round_trip_loses_nothing(job: Job, form: Form) -> None:
    assert decode(*encode(job, form=form)) == [job]


@given(st.lists(any_jobs, min_size=1, max_size=8))
def test_packed_round_trip_loses_nothing(many: list[Job]) -> None:
    body, content_type = pack(many)
    assert decode(body, content_type) == many
    assert wire.count_records(body, content_type) == len(many)


@given(any_jobs)
def test_offset_of_a_time_comes_back(job: Job) -> None:
    [back] = decode(*encode(job))
    if job.scheduled_at is not None:
        assert back.scheduled_at is not None
        assert back.scheduled_at.utcoffset() == job.scheduled_at.utcoffset()


@pytest.mark.parametrize("form", FORMS)
def test_microseconds_and_far_dates_come_back(form: Form) -> None:
    for moment in (
        datetime(2026, 1, 2, 12, 0, 0, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC),
    ):
        job = Job(scheduled_at=moment)
        assert decode(*encode(job, form=form)) == [job]


def test_msgpack_carries_its_own_types() -> None:
    payload = [msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 2), float("inf"), b"\x00", {"k": (1, 2)}]
    [back] = decode(*encode(Job(payload=payload)))
    assert back.payload == [*payload[:4], {"k": [1, 2]}]


# -- damage


@settings(max_examples=200)
@given(any_jobs, st.data())
def test_one_changed_byte_is_never_another_job(job: Job, data: st.DataObject) -> None:
    body, content_type = encode(job)
    at = data.draw(st.integers(0, len(body) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != body[at]))
    changed = body[:at] + bytes([other]) + body[at + 1 :]
    assert isinstance(decoded(changed, content_type), DecodeError)


def test_every_changed_byte_of_the_reference_is_seen() -> None:
    for make in (encode(REFERENCE), encode(Job(id="1")), encode(Job(id=None)), pack([REFERENCE, REFERENCE])):
        body, content_type = make
        for at in range(len(body)):
            for other in set(range(256)) - {body[at]}:
                changed = body[:at] + bytes([other]) + body[at + 1 :]
                assert isinstance(decoded(changed, content_type), DecodeError), (at, other)


@settings(max_examples=200)
@given(any_jobs, st.data())
def test_changed_bytes_are_refused_or_the_same_job(job: Job, data: st.DataObject) -> None:
    body, content_type = data.draw(st.sampled_from([encode(job), pack([job, job])]))
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    seen = decoded(bytes(changed), content_type)
    assert isinstance(seen, DecodeError) or (bytes(changed) == body)


@given(json_jobs, st.sampled_from([*FORMS, "packed"]), st.data())
def test_truncated_bytes_are_always_refused(job: Job, form: Any, data: st.DataObject) -> None:
    body, content_type = pack([job, job]) if form == "packed" else encode(job, form=form)
    end = data.draw(st.integers(0, len(body) - 1))
    assert isinstance(decoded(body[:end], content_type), DecodeError)


@given(json_jobs, st.sampled_from(["compact_json", "verbose_json"]), st.data())
def test_changed_json_never_crashes_a_reader(job: Job, form: Form, data: st.DataObject) -> None:
    body, content_type = encode(job, form=form)
    changed = bytearray(body)
    changed[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    decoded(bytes(changed), content_type)


@settings(max_examples=300)
@given(
    st.binary(max_size=60),
    st.sampled_from([None, MSGPACK, JSON, PACKED, "text/plain", "application/octet-stream", "x/y"]),
    st.sampled_from([None, "gzip", "utf-8", "br"]),
)
def test_any_bytes_give_jobs_or_a_decode_error(body: bytes, content_type: str | None, encoding: str | None) -> None:
    decoded(body, content_type, encoding)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"i":"1","t":"B","x":1}', "unknown_field"),
        (b'{"i":"1","j":"2","t":"B"}', "unknown_field"),
        (b'{"i":"1","t":"B","t":"A"}', "duplicate_field"),
        (b'{"i":"1","u":"\\":","u":"2"}', "duplicate_field"),
        (b'{"i":"1","u" :"2","u":"3"}', "duplicate_field"),
        (b'{"i":"1","u":"2","p":{"a":[{"b":1,"b"\t:2}]}}', "duplicate_field"),
        (b'{"i":"1","t":"Q"}', "unknown_type_code"),
        (b'{"i":1,"t":"B"}', "bad_field"),
        (b'{"i":"1","u":["x"]}', "bad_field"),
        (b'{"i":"1","r":true}', "bad_field"),
        (b'{"i":"1","r":1.5}', "bad_field"),
        (b'{"i":"1","m":"soon"}', "bad_field"),
        (b'{"i":"1","t":"a\\u0000b"}', "bad_field"),
        (b'{"i":"%s","t":"B"}' % (b"x" * 256), "bad_field"),
        (b'{"i":"1","s":"2026-01-02T12:00:00"}', "bad_time"),
        (b'{"i":"1","s":1735819200000}', "bad_time"),
        (b'{"i":"1","s":"later"}', "bad_time"),
        (b'{"i":"1","s":1e999}', "bad_json"),
        (b'{"i":"1","s":NaN}', "bad_json"),
        (b"plain text", "bad_json"),
        (b"", "bad_json"),
    ],
)
def test_a_bad_json_job_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    error = decoded(body, JOB_JSON)
    assert isinstance(error, DecodeError)
    assert error.reason == reason


def test_retry_counts_are_clamped_on_reading_only() -> None:
    assert decode(b'{"i":"1","r":-5}', JOB_JSON)[0].retry_count == 0
    assert decode(b'{"i":"1","r":999999999999}', JOB_JSON)[0].retry_count == 1_000_000
    with pytest.raises(ValueError, match="retry_count"):
        Job(retry_count=-1)


# -- bounds


def refused(body: bytes, content_type: str | None, limits: MessageLimits, encoding: str | None = None) -> str:
    with pytest.raises(DecodeError) as caught:
        decode(body, content_type, encoding, limits)
    return caught.value.reason


def test_bounds_of_size_depth_and_number() -> None:
    small = MessageLimits(max_message_bytes=1000, max_records=3, max_depth=4, max_collection=10, max_elements=20)
    assert refused(b" " * 1001, JSON, small) == "too_large"
    assert refused(b"[" * 5 + b"]" * 5, JSON, small) == "too_deep"
    assert refused(b"\x91" * 5 + b"\xc0", MSGPACK, small) == "too_deep"
    assert refused(json.dumps([0] * 11).encode(), JSON, small) == "too_many_elements"
    assert refused(json.dumps([[0] * 9] * 3).encode(), JSON, small) == "too_many_elements"
    assert refused(msgpack.packb([0] * 11), MSGPACK, small) == "bad_msgpack"
    assert refused(pack([Job()] * 4)[0], PACKED, small) == "too_many_records"


@pytest.mark.parametrize("content_type", [JSON, MSGPACK, PACKED, None])
def test_endless_nesting_is_refused(content_type: str | None) -> None:
    for body in (b"[" * 100_000, b'{"a":' * 100_000, b"\x91" * 100_000, b"\x81\xa1a" * 100_000):
        found = decoded(body, content_type)
        if content_type is None and body[:1] == b"\x91":  # nothing says that it is msgpack
            assert found == [Job(id=None, payload=body)]
        else:
            assert isinstance(found, DecodeError)


def test_large_documents_of_little_things_are_refused_before_they_are_built() -> None:
    flat = b"\xdd" + (200).to_bytes(4, "big") + (b"\xdc\xea\x60" + b"\x90" * 60_000) * 200
    assert refused(flat, MSGPACK, MessageLimits()) == "too_many_elements"
    assert refused(b"[" + b"[]," * 600_000 + b"0]", JSON, MessageLimits()) == "too_many_elements"


def test_a_text_without_an_end_after_too_many_commas_is_passed_over_once() -> None:
    """A pattern that went back over it, from each of its quotes, took half an hour."""
    assert refused(b"b," * 500_001 + b'"' + b'\\"' * 20_000, JSON, MessageLimits()) == "too_many_elements"
    assert refused(b'["' + b"," * 500_001 + b'\\"' * 20_000, JSON, MessageLimits()) == "bad_json"


def test_many_commas_inside_a_text_are_no_elements() -> None:
    body, content_type = encode(Job(id="1", payload="," * 600_000), form="compact_json")
    assert decode(body, content_type)[0].payload == "," * 600_000


def test_lengths_that_lie_cost_nothing() -> None:
    for body in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"):
        assert isinstance(decoded(body, MSGPACK), DecodeError)
        assert isinstance(decoded(body, PACKED), DecodeError)
        assert wire.count_records(body, PACKED) <= len(body)


def test_gzip_is_read_within_bounds() -> None:
    body, content_type = encode(REFERENCE)
    packed = gzip.compress(body)
    assert decode(packed, content_type, "gzip") == [REFERENCE]
    assert refused(packed[:-1], content_type, MessageLimits(), "gzip") == "bad_gzip"
    assert refused(packed + b"x", content_type, MessageLimits(), "gzip") == "bad_gzip"
    assert refused(b"no gzip", content_type, MessageLimits(), "gzip") == "bad_gzip"
    bomb = gzip.compress(b"\x00" * 50_000_000)
    assert refused(bomb, MSGPACK, MessageLimits(), "gzip") == "too_large"
    assert refused(body, content_type, MessageLimits(), "snappy") == "unsupported_encoding"


def test_a_gzip_body_is_read_to_what_it_says_it_holds() -> None:
    plain = b"x" * 100_000
    body = gzip.compress(plain)
    assert decode(body, "text/plain", "gzip")[0].payload == plain.decode()
    lies = body[:-4] + (99_999).to_bytes(4, "little")
    assert refused(lies, "text/plain", MessageLimits(), "gzip") == "bad_gzip"


def test_a_body_weighs_what_it_says_it_holds_within_reason() -> None:
    limits = MessageLimits(max_message_bytes=1_000_000)
    body = gzip.compress(b"x" * 100_000)
    assert wire.plain_size(body, None, limits) == len(body)
    assert wire.plain_size(body, "utf-8", limits) == len(body)
    assert wire.plain_size(body, " GZip", limits) == 100_000
    assert wire.plain_size(b"x" * 100 + b"\xff" * 4, "gzip", limits) == 104 * 1032, "no more than deflate can hold"
    assert wire.plain_size(b"x" * 9_000 + b"\xff" * 4, "gzip", limits) == 1_000_000, "or than is ever read"
    assert wire.plain_size(b"x" * 9_000 + b"\x00" * 4, "gzip", limits) == 9_004
    assert wire.plain_size(b"", "gzip", limits) == 0


# -- packed


def test_a_packed_message_shows_its_number_of_records_in_its_first_bytes() -> None:
    body, content_type = pack([Job() for _ in range(300)])
    assert wire.count_records(body[:10], content_type) == 10  # never more than the bytes could hold
    assert wire.count_records(body, content_type) == 300
    assert wire.count_records(body, content_type, max_records=100) == 100
    assert wire.count_records(body, MSGPACK) == 1
    assert wire.count_records(b"", PACKED) == 1


def test_a_compressed_packed_message_shows_it_too() -> None:
    body, content_type = pack([Job() for _ in range(300)])
    assert wire.count_records(gzip.compress(body), content_type, " GZIP") == 300
    assert wire.count_records(gzip.compress(body)[:-9], content_type, "gzip", max_records=100) == 100
    assert wire.count_records(b"no gzip", content_type, "gzip") == 1
    named = io.BytesIO()
    with gzip.GzipFile("x" * 10_000, "wb", fileobj=named) as stream:
        stream.write(body)
    assert wire.count_records(named.getvalue(), content_type, "gzip", max_records=500) == 500, "hidden: the most"


@given(st.lists(any_jobs, min_size=1, max_size=8))
def test_the_pieces_of_a_packed_message_are_its_records(many: list[Job]) -> None:
    body, _ = pack(many)
    assert [decode(piece, JOB_MSGPACK) for piece in wire.split(body)] == [[job] for job in many]
    assert wire.split(gzip.compress(body), "gzip") == wire.split(body)
    assert all(len(piece) <= len(body) for piece in wire.split(body)), "it fits where the whole did"


@pytest.mark.parametrize(
    "record",
    [
        b"\xde\x00\x01\xa1i\xa1a",  # a map that counts in 16 bits
        b"\xdf\x00\x00\x00\x01\xa1i\xa1a",  # in 32
        b"\x8f" + b"\xa1i\xa1a" * 15,  # the same field 15 times: no room for a checksum
    ],
)
def test_pieces_of_other_writers_are_read_as_their_records(record: bytes) -> None:
    body = b"\x91" + record
    [piece] = wire.split(body)
    assert decode(piece, JOB_MSGPACK) == decode(body, PACKED) == [Job(id="a")]


@given(st.binary(max_size=60))
def test_what_cannot_be_taken_apart_is_an_error_of_its_own_kind(body: bytes) -> None:
    with suppress(DecodeError):
        assert all(isinstance(piece, bytes) for piece in wire.split(body))


def test_packed_records_of_another_producer_need_no_checksum() -> None:
    body = msgpack.packb([{"i": "a", "t": "B"}, {"i": "b", "p": 1}])
    assert [job.id for job in decode(body, PACKED)] == ["a", "b"]
    assert wire.count_records(body, PACKED) == 2


@pytest.mark.parametrize("body", [b"\x90", b"\xc0", msgpack.packb({"i": "a"}), msgpack.packb([1]), msgpack.packb([{}])])
def test_what_is_no_list_of_records_is_no_packed_message(body: bytes) -> None:
    assert isinstance(decoded(body, PACKED), DecodeError)


def test_packing_nothing_is_an_error() -> None:
    with pytest.raises(EncodeError):
        pack([])


# -- other people's messages


@pytest.mark.parametrize(
    ("body", "content_type", "payload"),
    [
        (b'{"foo": 1}', JSON, {"foo": 1}),
        (b'{"messageId": "1", "body": {}}', JSON, {"messageId": "1", "body": {}}),
        (b'\xef\xbb\xbf{"foo": 1}', "application/json; charset=utf-8", {"foo": 1}),
        (b"[1, 2]", "application/vnd.api+json", [1, 2]),
        (b'"hello"', "Application/JSON", "hello"),
        (b"{}", JSON, {}),
        (msgpack.packb({"foo": b"x"}), "application/x-msgpack", {"foo": b"x"}),
        ("grüße".encode(), "text/plain", "grüße"),
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
        (b'{"foo": 1}', None, {"foo": 1}),
        (b" [1]", "", [1]),
        (msgpack.packb({"foo": 1}), None, {"foo": 1}),
    ],
)
def test_a_document_of_another_shape_is_the_payload(body: bytes, content_type: str | None, payload: Any) -> None:
    [job] = decode(body, content_type)
    assert (job.id, job.payload) == (None, payload)


@pytest.mark.parametrize("form", FORMS)
def test_our_forms_are_recognised_without_a_content_type_where_the_setting_says_so(form: Form) -> None:
    assert decode(encode(REFERENCE, form=form)[0], None, message_format="report") == [REFERENCE]


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"\x80\x04K\x01.", "application/x-python-serialize", "pickle_refused"),
        (b"\xff", "text/plain", "bad_text"),
        (b"\x81\x90\x02", MSGPACK, "bad_msgpack"),  # a map whose key is a list
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes, content_type: str | None, reason: str) -> None:
    error = decoded(body, content_type)
    assert isinstance(error, DecodeError)
    assert error.reason == reason


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"\x08\x07", "application/x-protobuf", "unsupported_content_type"),
        (b"{}", "x/y; charset=utf-8", "unsupported_content_type"),
        (b"\xff\xfe", None, "unknown_format"),
        (b"hello", None, "unknown_format"),
        (b'{"torn": ', None, "unknown_format"),
        (b"\x81\xa1", "", "unknown_format"),
        (b"", None, "unknown_format"),
    ],
)
def test_what_has_no_reader_is_bytes_or_refused_as_the_setting_says(
    body: bytes, content_type: str | None, reason: str
) -> None:
    assert decode(body, content_type) == [Job(id=None, payload=body)]
    with pytest.raises(DecodeError, match=reason):
        decode(body, content_type, unknown="reject")


def test_msgpack_of_another_producer_needs_no_checksum_and_may_write_a_uuid_as_text() -> None:
    assert decode(msgpack.packb(COMPACT_REFERENCE), JOB_MSGPACK) == [REFERENCE]


def test_lines_of_either_json_form_are_jobs() -> None:
    assert wire.parse_line(json.dumps(COMPACT_REFERENCE) + "\n") == REFERENCE
    assert wire.parse_line(json.dumps(VERBOSE_REFERENCE)).timestamp_ms == 1735819200000
    without = wire.parse_line('{"messageType": "BIRTHDAY", "userId": "u"}')
    assert without.id is not None
    assert wire.parse_line('\ufeff{"t": "B", "u": "x"}').message_type == "BIRTHDAY"
    assert (without.user_id, without.message_type) == ("u", "BIRTHDAY")


@pytest.mark.parametrize("line", ["", "nonsense", "[1]", '{"foo": 1}', '{"i": "1", "t": "B"', "\ud800"])
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(DecodeError):
        wire.parse_line(line)


# -- message type codes


def test_codes_can_be_added_and_stay_unambiguous() -> None:
    codes = wire.REPORT_CODES.extended({"W": "WELCOME"})
    job = Job(message_type="WELCOME")
    body, content_type = encode(job, codes=codes)
    assert msgpack.unpackb(body)["t"] == "W"
    assert decode(body, content_type, codes=codes) == [job]
    assert isinstance(decoded(body, content_type), DecodeError)


@pytest.mark.parametrize("names", [{"BB": "X1"}, {"b": "X1"}, {"C": "B"}, {"C": "SAME", "D": "SAME"}])
def test_codes_that_could_be_mistaken_are_refused(names: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        TypeCodes(names)


# -- jobs


def test_a_new_job_has_a_uuid7_and_a_foreign_id_is_kept() -> None:
    made = [Job().id for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(uuid.UUID(str(one)).version == 7 for one in made)
    assert Job(id="ORDER/42 ä").id == "ORDER/42 ä"


def test_uuid7_carries_the_time() -> None:
    made = uuid.UUID(uuid7())
    assert made.variant == uuid.RFC_4122
    seconds = (made.int >> 80) / 1000
    assert abs(seconds - datetime.now(UTC).timestamp()) < 60


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"id": "x" * 256},
        {"id": "ä" * 128},
        {"id": 5},
        {"user_id": 5},
        {"message_type": None},
        {"message_type": "a\nb"},
        {"retry_count": True},
        {"retry_count": 1_000_001},
        {"scheduled_at": datetime(2026, 1, 1)},  # naive
        {"scheduled_at": 5},
        {"timestamp_ms": 1.5},
        {"timestamp_ms": 2**63},
    ],
)
def test_a_job_that_cannot_be_is_refused_when_it_is_made(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Job(**fields)


def test_a_job_survives_replace_and_pickle() -> None:
    job = msgspec.structs.replace(REFERENCE, key="k", attempt=2)
    assert pickle.loads(pickle.dumps(job)) == job


@pytest.mark.parametrize(
    ("payload", "form"),
    [
        ({1: 2}, "msgpack"),
        (object(), "msgpack"),
        (2**64, "msgpack"),
        (NOON, "msgpack"),
        ("\ud800", "msgpack"),
        ({"a": {"b": {1}}}, "msgpack"),
        (b"x", "compact_json"),
        (float("nan"), "compact_json"),
        ({"a": float("inf")}, "verbose_json"),
        ({1: 2}, "verbose_json"),
    ],
)
def test_a_payload_that_would_not_come_back_is_not_written(payload: Any, form: Form) -> None:
    with pytest.raises(EncodeError):
        encode(Job(payload=payload), form=form)


def test_what_is_written_is_never_too_deep_for_the_reader() -> None:
    payload: Any = 1
    for _ in range(30):
        payload = [payload]
    for make in (encode(Job(payload=payload)), pack([Job(payload=payload)])):
        assert decode(*make)[0].payload == payload
    with pytest.raises(EncodeError):
        encode(Job(payload=[payload]))


def test_decode_error_can_cross_processes() -> None:
    error = pickle.loads(pickle.dumps(DecodeError("bad_json", "x")))
    assert (error.reason, error.detail) == ("bad_json", "x")
