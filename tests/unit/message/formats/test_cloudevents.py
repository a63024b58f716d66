"""CloudEvents: one shape for both modes, and a key of source and id."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.formats.cloudevents import STRUCTURED, read_event
from rabbitray.actors.message.formats.decoded import Decoded
from rabbitray.actors.message.headers import JSON
from rabbitray.actors.message.message import Message
from rabbitray.actors.message.wire import MessageLimits

ATTRIBUTES: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/shop",
    "type": "order.created",
    "subject": "7",
    "time": "2026-01-02T12:00:00Z",
}
EVENT = ATTRIBUTES | {"datacontenttype": JSON, "data": {"order": 7}}


def structured(event: object, content_type: str = STRUCTURED) -> Decoded:
    body = json.dumps(event).encode()
    return read_event(body, Message(body=body, content_type=content_type), MessageLimits())


def binary(body: bytes, attributes: dict[str, Any], content_type: str | None = JSON, mark: str = "cloudEvents_") -> Any:
    headers = {f"{mark}{name}": value for name, value in attributes.items()} | {"other": 1}
    return read_event(body, Message(body=body, content_type=content_type, headers=headers), MessageLimits())


@pytest.mark.parametrize("mark", ["cloudEvents:", "cloudEvents_", "ce-", "ce_"])
def test_both_modes_give_one_payload(mark: str) -> None:
    one, other = structured(EVENT), binary(b'{"order": 7}', ATTRIBUTES, mark=mark)
    assert one == other
    assert one.payload == EVENT
    assert (one.key, one.message_type, one.timestamp_ms) == ("/shop e-1", "order.created", 1767355200000)


def test_data_of_any_kind() -> None:
    assert structured(ATTRIBUTES | {"data_base64": "/wA="}).payload["data"] == b"\xff\x00"
    assert "data" not in structured(ATTRIBUTES).payload
    assert "data" not in binary(b"", ATTRIBUTES, None).payload
    assert binary(b"\xff\x00", ATTRIBUTES, "application/x-protobuf").payload["data"] == b"\xff\x00"
    assert binary("grüße".encode(), ATTRIBUTES, "text/plain").payload["data"] == "grüße"
    signed = {"messageId": "m", "messageType": "T", "retryCount": 0}
    assert binary(json.dumps(signed).encode(), ATTRIBUTES).payload["data"] == signed, "the data of an event is no job"


def test_two_sources_may_use_one_id_and_a_long_key_is_kept_short() -> None:
    keys = {structured(ATTRIBUTES | {"source": source}).key for source in ("/a", "/b", "x" * 300, "y" * 300)}
    assert len(keys) == 4
    assert all(len(key or "") <= 255 for key in keys)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"specversion": None}, "bad_field"),
        ({"id": ""}, "bad_field"),
        ({"source": 7}, "bad_field"),
        ({"type": None}, "bad_field"),
        ({"time": "noon"}, "bad_time"),
        ({"time": "2026-01-02T12:00:00"}, "bad_time"),
        ({"data_base64": "*"}, "bad_field"),
    ],
)
def test_what_is_no_event_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DecodeError) as raised:
        structured(ATTRIBUTES | changes)
    assert raised.value.reason == reason


def test_neither_mode_and_other_forms_are_named() -> None:
    with pytest.raises(DecodeError, match="no_cloudevent"):
        binary(b"{}", {})
    with pytest.raises(DecodeError, match="bad_field"):
        structured([EVENT])
    for kind in ("application/cloudevents-batch+json", "application/cloudevents+avro"):
        with pytest.raises(DecodeError, match="unsupported_content_type"):
            structured([EVENT], kind)
