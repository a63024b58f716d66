"""Any bytes into every format, with any headers: a payload or a DecodeError, in time that grows with the body."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import cbor2
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.formats.auto import read_as, read_by_type
from rabbitray.actors.message.formats.cbor import CBOR
from rabbitray.actors.message.formats.cloudevents import STRUCTURED
from rabbitray.actors.message.formats.decoded import job_of
from rabbitray.actors.message.formats.named import FORMATS
from rabbitray.actors.message.headers import JSON
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.message import Message
from rabbitray.actors.message.wire import REPORT_CODES, MessageLimits
from tests.kit.body_mutations import mutated
from tests.kit.deliveries import parcel
from tests.kit.growth import growth

FEW = MessageLimits(max_message_bytes=4_000, max_records=20, max_depth=6, max_collection=50, max_elements=100)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
SEEDS: list[bytes] = [
    json.dumps([[7], {"a": 1}, {"chain": None}]).encode(),
    json.dumps({"task": "t", "id": "1", "args": [], "kwargs": {}, "eta": "2026-01-02T12:00:00"}).encode(),
    json.dumps({"actor_name": "a", "message_id": "1", "args": [], "kwargs": {}, "options": {"eta": 1}}).encode(),
    json.dumps({"specversion": "1.0", "id": "1", "source": "/", "type": "t", "data_base64": "eA=="}).encode(),
    json.dumps(
        {"body": "e30=", "properties": {"body_encoding": "base64"}, "headers": {"compression": "gzip"}}
    ).encode(),
    json.dumps([[{"__type__": "uuid", "__value__": {"hex": "0" * 32}}], {}, None]).encode(),
    msgpack.packb([[b"x"], {}, None]),
    cbor2.dumps({"a": [1, datetime(2026, 1, 2, tzinfo=UTC)]}),
    b"\x00Sw\xa1\x05hello",
]
values: Any = st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.text(max_size=9) | st.binary(max_size=9)
NAMES = ["task", "id", "eta", "expires", "retries", "lang", "compression", "cloudEvents:id", "cloudEvents:specversion"]
headers = st.dictionaries(
    st.sampled_from([*NAMES, "cloudEvents:source", "cloudEvents:type", "cloudEvents:time"]),
    values | st.lists(values, max_size=2) | st.dictionaries(st.text(max_size=3), values, max_size=2),
)
KINDS = st.sampled_from(
    [None, JSON, "application/x-msgpack", "text/plain", STRUCTURED, CBOR, "x/y", "text/plain; charset=utf-16"]
)
bodies = st.binary(max_size=200) | st.sampled_from(SEEDS).flatmap(mutated) | st.sampled_from(SEEDS)


def tried(call: Callable[[], Any]) -> Any:
    """What it gives; a DecodeError as it should be."""
    try:
        return call()
    except DecodeError as raised:
        error = raised
    assert error.reason not in ("", "unreadable"), error
    assert " " not in error.reason
    assert len(str(error)) < 500, "an error does not repeat the body"
    return None


@pytest.mark.parametrize("name", FORMATS)
@given(body=bodies, kind=KINDS, table=headers)
def test_any_message_is_a_job_or_has_a_reason(name: str, body: bytes, kind: str | None, table: dict[str, Any]) -> None:
    message = Message(body=body, content_type=kind, headers=table, correlation_id="c")
    for limits in (MessageLimits(), FEW):
        found = tried(lambda limits=limits: job_of(read_as(FORMATS[name].read, body, message, limits), NOW))
        assert found is None or isinstance(found, Job)


@given(
    body=bodies, kind=KINDS, encoding=st.sampled_from(["", "gzip", "utf-8", "utf-8, application/x-gzip", "br, zstd"])
)
def test_any_message_by_its_type_is_a_job_or_has_a_reason(body: bytes, kind: str | None, encoding: str) -> None:
    sent = parcel(body, content_type=kind or "", content_encoding=encoding)
    assert tried(lambda: read_by_type(sent, FEW, REPORT_CODES, "auto", "bytes")) != []


DEAR = {
    "json": lambda n: b"[" + b"[]," * (n // 3) + b"0]",
    "celery": lambda n: b"[[" + b'{"__type__":"x","__value__":1},' * (n // 31) + b"0],{},{}]",
    "dramatiq": lambda n: b'{"actor_name":"a","message_id":"1","kwargs":{},"args":[' + b"0," * (n // 2) + b"0]}",
    "cloudevents": lambda n: b'{"data_base64":"' + b"e" * n + b'"}',
    "cbor": lambda n: b"\x9a" + (n // 2).to_bytes(4, "big") + b"\x81\x01" * (n // 2),
    "text": lambda n: b"a" * n + "é€😀".encode(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DEAR)
def test_ten_times_the_size_takes_about_ten_times_as_long(name: str) -> None:
    message = Message(body=b"", content_type=STRUCTURED if name == "cloudevents" else JSON, headers={"task": "t"})

    def read(body: bytes) -> None:
        with suppress(DecodeError):
            read_as(FORMATS[name].read, body, message, MessageLimits())

    assert growth(read, *(DEAR[name](size) for size in (29_000, 290_000))) < 40
