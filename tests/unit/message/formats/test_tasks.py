"""Celery's tasks and Dramatiq's messages, as their documents say; what real clients send is in tests/broker."""

from __future__ import annotations

import base64
import json
import zlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import pytest

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.formats import Decoded
from rabbitray.actors.message.formats.celery import read_task
from rabbitray.actors.message.formats.decoded import job_of
from rabbitray.actors.message.formats.dramatiq import read_message
from rabbitray.actors.message.headers import JSON
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.message import Message
from rabbitray.actors.message.wire import MessageLimits

LIMITS = MessageLimits()
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
ID = "550e8400-e29b-41d4-a716-446655440000"
HEADERS: dict[str, Any] = {"lang": "py", "task": "shop.bill", "id": ID, "retries": 0, "eta": None, "group": "g-1"}
NOTHING = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def v2(args: Any = (7,), kwargs: Any = None, following: Any = None, **headers: Any) -> tuple[bytes, Message]:
    body = json.dumps([args, kwargs or {}, following or NOTHING]).encode()
    return body, Message(body=body, content_type=JSON, content_encoding="utf-8", headers=HEADERS | headers)


def v1(**fields: Any) -> tuple[bytes, Message]:
    document = {"task": "shop.bill", "id": ID, "args": [7], "kwargs": {}, "utc": True, **NOTHING} | fields
    body = json.dumps(document).encode()
    return body, Message(body=body, content_type=JSON, content_encoding="utf-8")


def celery(sent: tuple[bytes, Message]) -> Decoded:
    return read_task(*sent, LIMITS)


def refused(sent: tuple[bytes, Message]) -> str:
    with pytest.raises(DecodeError) as raised:
        job_of(celery(sent), NOW)
    return raised.value.reason


def test_both_protocols_give_one_job() -> None:
    for sent in (v2(kwargs={"to": "a"}), v1(kwargs={"to": "a"})):
        job = job_of(celery(sent), NOW)
        assert (job.payload, job.id, job.message_type) == ({"args": [7], "kwargs": {"to": "a"}}, ID, "shop.bill")


def test_times_and_retries_are_told() -> None:
    due, late = "2026-01-02T13:00:00+01:00", "2026-01-02T11:59:59.5"
    for sent in (v2(eta=due, expires=late, retries=2), v1(eta=due, expires=late, retries=2)):
        found = celery(sent)
        assert (found.scheduled_at, found.retry_count) == (NOW, 2)
        assert found.expires_at == NOW - timedelta(seconds=0.5), "in UTC where there is no zone"
        assert refused(sent) == "expired"
    assert refused(v1(eta=late, utc=False)) == "bad_time", "the zone of its producer"
    assert job_of(celery(v2(expires="2026-01-02T12:00:01Z")), NOW).id == ID


@pytest.mark.parametrize("name", NOTHING)
def test_a_task_that_others_follow_is_refused_whole(name: str) -> None:
    following = {name: [{"task": "shop.mail"}]}
    assert refused(v2(following=NOTHING | following)) == "celery_canvas"
    if name != "chain":
        assert refused(v1(**following)) == "celery_canvas"
    assert job_of(celery(v2(following=NOTHING | {name: []})), NOW).id == ID


def test_a_member_of_a_group_is_whole() -> None:
    assert job_of(celery(v2(group="g-1", group_index=3)), NOW).payload["args"] == [7]


def test_msgpack_and_what_json_has_no_form_for() -> None:
    body = msgpack.packb([[b"x"], {}, None])
    message = Message(body=body, content_type="application/x-msgpack", content_encoding="binary", headers=HEADERS)
    assert celery((body, message)).payload == {"args": [b"x"], "kwargs": {}}
    typed = [
        {"__type__": kind, "__value__": value}
        for kind, value in [
            ("datetime", NOW.isoformat()), ("date", "2026-01-02"), ("time", "12:00:00"), ("decimal", "1.50"),
            ("uuid", {"hex": UUID(ID).hex}), ("bytes", "x"), ("base64", "/w=="), ("mine", {"a": 1}),
        ]
    ]  # fmt: skip
    found = celery(v2(args=typed)).payload["args"]
    assert found[:1] == [NOW]
    assert found[3:7] == [Decimal("1.50"), UUID(ID), b"x", b"\xff"]
    assert found[7] == typed[7], "a type of the user's own stays as it was written"
    assert refused(v2(args=[{"__type__": "uuid", "__value__": 7}])) == "bad_field"


def test_a_pickle_is_never_opened() -> None:
    body = b"\x80\x04K\x01."
    message = Message(body=body, content_type="application/x-python-serialize", headers=HEADERS)
    assert refused((body, message)) == "pickle_refused"
    assert refused((b"a: 1", Message(body=b"", content_type="application/x-yaml"))) == "unsupported_content_type"


@pytest.mark.parametrize("compressed", [False, True])
def test_the_envelope_of_kombu_s_other_transports_is_opened(compressed: bool) -> None:
    inner, message = v2()
    sent = zlib.compress(inner) if compressed else inner
    envelope = {
        "body": base64.b64encode(sent).decode(),
        "content-type": JSON,
        "content-encoding": "utf-8",
        "headers": dict(message.headers) | ({"compression": "application/x-gzip"} if compressed else {}),
        "properties": {"body_encoding": "base64", "correlation_id": ID, "delivery_info": {}},
    }
    body = json.dumps(envelope).encode()
    assert celery((body, Message(body=body, content_type=JSON))).payload == {"args": [7], "kwargs": {}}
    broken = json.dumps(envelope | {"body": "*"}).encode()
    assert refused((broken, Message(body=broken))) == "bad_base64"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ((b"{}", Message(body=b"{}")), "no_celery_task"),
        ((b"[[],{},{}]", Message(body=b"")), "no_celery_task"),
        ((b"[[],{}", Message(body=b"")), "bad_json"),
        (v2(args={"a": 1}), "bad_field"),
        (v2(kwargs=[1]), "bad_field"),
        (v2(following=[1]), "bad_field"),
        (v2(task=""), "bad_field"),
        (v2(task="x" * 300), "bad_field"),
        (v2(id=7), "bad_field"),
        (v2(id="x" * 300), "bad_field"),
        (v2(retries="2"), "bad_field"),
        (v2(retries=-1), "bad_field"),
        (v2(eta="soon"), "bad_time"),
    ],
)
def test_what_is_no_task_is_named(sent: tuple[bytes, Message], reason: str) -> None:
    assert refused(sent) == reason


def test_an_id_may_be_missing() -> None:
    body, message = v2(id=None)
    assert celery((body, message)).key is None
    assert celery((body, Message(body=body, headers=message.headers, correlation_id="c"))).key == "c"


# -- Dramatiq

DRAMATIQ: dict[str, Any] = {
    "queue_name": "jobs",
    "actor_name": "bill",
    "args": [7],
    "kwargs": {"to": "a"},
    "options": {"redis_message_id": "r", "retries": 1, "eta": 1767355200000},
    "message_id": ID,
    "message_timestamp": 1767355100000,
}


def dramatiq(**changes: Any) -> Job:
    body = json.dumps(DRAMATIQ | changes).encode()
    return job_of(read_message(body, Message(body=body), LIMITS), NOW)


def test_a_dramatiq_message() -> None:
    job = dramatiq()
    assert job.payload == {"args": [7], "kwargs": {"to": "a"}, "options": DRAMATIQ["options"]}
    assert (job.id, job.message_type, job.retry_count) == (ID, "bill", 1)
    assert (job.scheduled_at, job.timestamp_ms) == (NOW, 1767355100000)


@pytest.mark.parametrize("name", ["pipe_target", "group_completion_callbacks", "on_success", "on_failure"])
def test_a_dramatiq_message_that_others_follow_is_refused_whole(name: str) -> None:
    with pytest.raises(DecodeError, match="dramatiq_composition"):
        dramatiq(options={name: {"actor_name": "mail"}})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"args": None}, "bad_field"),
        ({"kwargs": []}, "bad_field"),
        ({"options": [1]}, "bad_field"),
        ({"message_id": ""}, "bad_field"),
        ({"actor_name": 7}, "bad_field"),
        ({"message_timestamp": "now"}, "bad_field"),
        ({"options": {"eta": 10**18}}, "bad_time"),
    ],
)
def test_what_is_no_dramatiq_message_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DecodeError) as raised:
        dramatiq(**changes)
    assert raised.value.reason == reason
    with pytest.raises(DecodeError, match="no_dramatiq_message"):
        read_message(b"{}", Message(body=b"{}"), LIMITS)
