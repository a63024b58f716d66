"""No guessing: a document is a job in the report's form only where it surely is; every other one is the payload."""

from __future__ import annotations

import json
import zlib
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.headers import JOB_JSON, JOB_MSGPACK, JSON, MARK, MSGPACK, is_marked
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import Form, MessageFormat, decode, encode, pack, read_head

FOREIGN: tuple[dict[str, Any], ...] = (
    {"userId": "u1", "timestamp": 1735819200000, "event": "click", "page": "/"},
    {"timestamp": "2026-01-02T12:00:00Z", "payload": {"a": 1}, "event": "order.created", "id": "evt_1"},
    {"userId": 42, "payload": {"a": 1}},
    {"t": 21.5, "p": 1013, "h": 40, "sensor": "s1"},
    {"m": 1, "s": 2},
)
"""What was a dead letter, or lost its data, while field names told what a document means."""

SIGNED = {"messageId": "m1", "messageType": "BIRTHDAY", "retryCount": 2, "userId": "u", "payload": {"a": 1}}
SHORT = {"i": "m1", "t": "B", "r": 2, "u": "u", "p": {"a": 1}}
JOB = Job(id="m1", user_id="u", message_type="BIRTHDAY", retry_count=2, payload={"a": 1})

FORMATS: tuple[MessageFormat, ...] = ("auto", "report", "plain")
FORMS: tuple[Form, ...] = ("msgpack", "compact_json", "verbose_json")

names = st.sampled_from([*SIGNED, *SHORT, "timestamp", "scheduledSendTime", "m", "s", "", "id", "event"])
integers = st.integers(-(2**63), 2**64 - 1)
scalars = st.none() | st.booleans() | st.text(st.characters(codec="utf-8"), max_size=8)
json_scalars = scalars | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
msgpack_scalars = scalars | integers | st.floats() | st.binary(max_size=8) | st.just(msgpack.ExtType(5, b"x"))


def documents(scalars: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    flat = st.dictionaries(keys, scalars, max_size=6)
    return st.dictionaries(keys, scalars | flat | st.lists(scalars | flat, max_size=3), max_size=7) | st.lists(flat)


json_documents = json_scalars | documents(json_scalars, names)
msgpack_documents = msgpack_scalars | documents(msgpack_scalars, names | integers | st.binary(max_size=4))


def body_of(document: Any) -> bytes:
    return json.dumps(document).encode()


def payload(body: bytes, content_type: str | None, **more: Any) -> Any:
    """The payload of what must be no job in the form: it has nothing but its payload."""
    [job] = decode(body, content_type, **more)
    assert job == Job(id=None, payload=job.payload)
    return job.payload


def signed(document: Any) -> bool:
    """The issue's words, apart from the code: `messageId` and `messageType` text, `retryCount` a whole number, and no
    field beyond the form.
    """
    form = {"messageId", "userId", "messageType", "scheduledSendTime", "timestamp", "retryCount", "payload"}
    if not isinstance(document, dict) or set(document) - form:
        return False
    texts = isinstance(document.get("messageId"), str) and isinstance(document.get("messageType"), str)
    return texts and type(document.get("retryCount")) is int


# -- every document of a producer's own arrives as it was sent


@pytest.mark.parametrize("message_format", ["auto", "plain"])
@pytest.mark.parametrize(
    "content_type", [JSON, "application/json; charset=utf-8", "application/cloudevents+json", None]
)
@pytest.mark.parametrize("document", FOREIGN)
def test_a_document_with_names_of_ours_is_the_payload_as_it_is(
    document: dict[str, Any], content_type: str | None, message_format: MessageFormat
) -> None:
    assert payload(body_of(document), content_type, message_format=message_format) == document


@pytest.mark.parametrize("content_type", [MSGPACK, "application/x-msgpack", None])
@pytest.mark.parametrize("document", [*FOREIGN, SIGNED, SHORT, {"i": "1"}, {"": b"1234"}, {7: "a", b"k": 2, True: 3}])
def test_msgpack_without_mark_and_checksum_is_the_payload_as_it_is(
    document: dict[Any, Any], content_type: str | None
) -> None:
    assert payload(msgpack.packb(document), content_type) == document


@given(json_documents, st.sampled_from([JSON, "text/json", "a/b+json", f"{JSON}; charset=utf-8"]))
@example({"": {}}, JSON)
@example(2**200, JSON)
@example([1e308, -0.0, 5e-324, 10**400], JSON)
def test_any_json_document_is_the_payload(document: Any, content_type: str) -> None:
    """Numbers of any length, every float; a name that is there twice counts as every reader of JSON counts it."""
    if not signed(document):
        assert repr(payload(body_of(document), content_type)) == repr(document)
    assert repr(payload(body_of(document), content_type, message_format="plain")) == repr(document)


@given(msgpack_documents, st.sampled_from([MSGPACK, "application/x-msgpack", "application/vnd.msgpack"]))
def test_any_msgpack_document_is_the_payload(document: Any, content_type: str) -> None:
    body = msgpack.packb(document)
    for message_format in ("auto", "plain"):
        assert repr(payload(body, content_type, message_format=message_format)) == repr(document)


def test_a_name_that_is_there_twice_is_read_as_every_reader_does() -> None:
    assert payload(b'{"i": "1", "i": "2", "x": {"a": 1, "a": 2}}', JSON) == {"i": "2", "x": {"a": 2}}


@pytest.mark.parametrize("text", [b"NaN", b"[Infinity]", b"-Infinity", b"1e999", b'"\\ud800"'])
def test_what_is_no_json_is_refused_rather_than_changed(text: bytes) -> None:
    with pytest.raises(DecodeError, match="bad_json"):
        decode(text, JSON)


def test_a_checksum_of_a_stranger_is_data() -> None:
    """The last entry has our name for it, and is not the CRC-32 of the rest."""
    document = {"a": 1, "": b"\x01\x02\x03\x04"}
    assert payload(msgpack.packb(document), MSGPACK) == document


def test_a_map_with_keys_that_share_a_hash_is_refused() -> None:
    """Times and extension types can be chosen so that a map of them takes time that grows with its square."""
    for key in (b"\xd6\xff\x00\x00\x00\x01", b"\xd4\x05x", b"\x90"):
        with pytest.raises(DecodeError, match="bad_msgpack"):
            decode(b"\x81" + key + b"\x01", MSGPACK)


# -- the form: by its mark, its signature, the setting


@pytest.mark.parametrize("message_format", FORMATS)
@pytest.mark.parametrize("form", FORMS)
def test_what_our_publisher_writes_is_marked_and_read_under_every_setting(
    form: Form, message_format: MessageFormat
) -> None:
    body, content_type = encode(JOB, form=form)
    assert is_marked(content_type)
    assert decode(body, content_type, message_format=message_format) == [JOB]
    packed, kind = pack([JOB])
    assert decode(packed, kind, message_format=message_format) == [JOB]


@pytest.mark.parametrize(
    ("content_type", "marked"),
    [
        (JOB_JSON, True),
        (JOB_MSGPACK, True),
        ("Application/JSON;charset=utf-8 ; Form=RabbitRay", True),
        ('application/json;form="rabbitray"', True),
        (JSON, False),
        (MARK, False),
        ("application/json; form=rabbitrays", False),
        ("application/json; xform=rabbitray", False),
        ("", False),
        (None, False),
    ],
)
def test_the_mark_is_a_parameter_of_the_content_type(content_type: str | None, marked: bool) -> None:
    assert is_marked(content_type) is marked


@pytest.mark.parametrize("document", [SIGNED, SHORT])
def test_a_marked_document_of_any_producer_is_a_job(document: dict[str, Any]) -> None:
    assert decode(body_of(document), JOB_JSON) == [JOB]
    assert decode(msgpack.packb(document), JOB_MSGPACK) == [JOB]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        *zip(FOREIGN[:4], ("unknown_field", "unknown_field", "bad_field", "unknown_field"), strict=True),
        ({"messageId": "1", "event": "x"}, "unknown_field"),
        ({"messageId": "1", "t": "B"}, "unknown_shape"),
        ({"order": 7}, "unknown_field"),
        ({}, "unknown_shape"),
        ([], "unknown_shape"),
        ("text", "unknown_shape"),
        (None, "unknown_shape"),
    ],
)
def test_a_marked_document_that_is_no_job_is_a_dead_letter(document: Any, reason: str) -> None:
    for body, content_type in ((body_of(document), JOB_JSON), (msgpack.packb(document), JOB_MSGPACK)):
        with pytest.raises(DecodeError) as caught:
            decode(body, content_type)
        assert caught.value.reason == reason


def test_unmarked_verbose_json_is_a_job_by_its_complete_signature() -> None:
    assert decode(body_of(SIGNED), JSON) == [JOB]
    assert decode(body_of(SIGNED), None) == [JOB]
    assert payload(body_of(SIGNED), JSON, message_format="plain") == SIGNED


@pytest.mark.parametrize(
    "change",
    [
        {"messageId": None},
        {"messageId": 1},
        {"messageType": None},
        {"messageType": ["x"]},
        {"retryCount": "2"},
        {"retryCount": 2.0},
        {"retryCount": True},
        {"event": "click"},
    ],
)
def test_less_than_the_signature_is_none(change: dict[str, Any]) -> None:
    document = SIGNED | change
    assert payload(body_of(document), JSON) == document
    for name in change.keys() & SIGNED.keys():
        shorter = {key: value for key, value in SIGNED.items() if key != name}
        assert payload(body_of(shorter), JSON) == shorter


def test_unmarked_compact_json_is_a_job_by_the_setting_only() -> None:
    assert payload(body_of(SHORT), JSON) == SHORT
    assert payload(body_of(SHORT), JSON, message_format="plain") == SHORT
    assert decode(body_of(SHORT), JSON, message_format="report") == [JOB]
    assert decode(msgpack.packb(SHORT), MSGPACK, message_format="report") == [JOB]


def test_the_setting_report_reads_as_every_version_before_did() -> None:
    [partial] = decode(body_of({"userId": "u", "payload": {"a": 1}}), JSON, message_format="report")
    assert (partial.user_id, partial.payload) == ("u", {"a": 1})
    assert payload(b'{"order": 7}', JSON, message_format="report") == {"order": 7}
    with pytest.raises(DecodeError, match="unknown_field"):
        decode(body_of(FOREIGN[0]), JSON, message_format="report")
    with pytest.raises(DecodeError, match="duplicate_field"):
        decode(b'{"i":"1","t":"B","t":"A"}', JSON, message_format="report")


# -- a queue that the version before has filled: no mark, but the header that its publisher stamped


def before(job: Job, form: Form) -> tuple[bytes, str]:
    """As the version before sent it."""
    return encode(job, form=form)[0], MSGPACK if form == "msgpack" else JSON


@pytest.mark.parametrize("message_format", FORMATS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "job",
    [JOB, Job(id="bare"), Job(id="none", user_id="", payload={}), Job(id=None, message_type="X", payload=[1])],
    ids=["full", "bare", "no-user", "no-id"],
)
def test_what_an_earlier_publisher_sent_has_its_key_and_input(
    job: Job, form: Form, message_format: MessageFormat
) -> None:
    body, content_type = before(job, form)
    assert decode(body, content_type, message_format=message_format, stamped=True) == [job]


@given(st.data())
def test_one_changed_byte_of_what_an_earlier_publisher_sent_is_never_another_job(data: st.DataObject) -> None:
    body, content_type = before(JOB, "msgpack")
    at = data.draw(st.integers(0, len(body) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != body[at]))
    with pytest.raises(DecodeError):
        decode(body[:at] + bytes([other]) + body[at + 1 :], content_type, stamped=True)


@pytest.mark.parametrize("document", [*FOREIGN, {"order": 7}, {"i": 7, "t": 1, "r": 2}, {"i": "7", "t": "x"}, [1]])
def test_a_producer_s_own_document_stays_one_under_that_header(document: Any) -> None:
    """An earlier version wrote it onto copies of every message that had a time, into rungs and dead letters."""
    assert payload(body_of(document), JSON, stamped=True) == document


# -- the router knows the key that the worker reads, or none


@given(
    json_documents | st.sampled_from([SIGNED, SHORT, *FOREIGN]),
    st.sampled_from([JSON, JOB_JSON, MSGPACK, JOB_MSGPACK, None]),
    st.sampled_from(FORMATS),
    st.booleans(),
    st.booleans(),
)
def test_the_head_of_a_body_is_never_of_what_the_worker_takes_for_a_payload(
    document: Any, content_type: str | None, message_format: MessageFormat, stamped: bool, checked: bool
) -> None:
    kind = "msgpack" if content_type and "msgpack" in content_type else "json"
    try:
        body = msgpack.packb(document) if kind == "msgpack" else json.dumps(document, separators=(",", ":")).encode()
    except (OverflowError, ValueError):
        return
    if checked and kind == "msgpack" and isinstance(document, dict) and 0 < len(document) < 15:
        body = _with_checksum(body)
    how: dict[str, Any] = {"message_format": message_format, "stamped": stamped}
    try:
        head = read_head(body, content_type, "", **how)
    except DecodeError:
        return
    try:
        [job] = decode(body, content_type, **how)
    except DecodeError:
        return
    assert (job.id, job.message_type, job.retry_count) == (head.id, head.message_type, head.retry_count)


def _with_checksum(record: bytes) -> bytes:
    head = bytes([record[0] + 1]) + record[1:]
    return head + b"\xa0\xc4\x04" + zlib.crc32(head).to_bytes(4, "big")
