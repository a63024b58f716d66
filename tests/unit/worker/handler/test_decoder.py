"""The decoder of the setting: found before anything runs, and what it raises ends its own message alone."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rabbitray import Job
from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.message import Envelope
from rabbitray.actors.message.parcel import Parcel
from rabbitray.actors.message.properties import fields as f
from rabbitray.actors.message.properties.route import route_of
from rabbitray.actors.message.wire import encode, pack
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.actors.testing import Message, work
from rabbitray.actors.worker.handler.decoder import load_decoder, require_decoder
from rabbitray.actors.worker.handler.loading import Handler
from rabbitray.actors.worker.outcome.verdict import Categories
from rabbitray.actors.worker.worker import Worker, WorkerConfig
from tests.kit.deliveries import parcel
from tests.kit.worker_batches import parcels, whole

SAMPLES = "tests.kit.sample_decoders"


@asynccontextmanager
async def worker_of(decoder: str, call: Any = lambda job: job.payload, **changes: Any) -> AsyncIterator[Worker]:
    config = WorkerConfig(**{"name": "w-1", "queue": "q", "early_s": 10.0} | changes)
    handler = Handler(name="test", style="sync", call=call, close=lambda: None)
    worker = Worker(config, handler, Categories(), Tracing(queue="q"), decoder=load_decoder(decoder))
    try:
        yield worker
    finally:
        await worker.close()


def sent(*bodies: str, **changes: Any) -> list[Parcel]:
    return [
        parcel(body.encode("latin-1"), **{"content_type": "x/y", "message_id": f"m{n}"} | changes)
        for n, body in enumerate(bodies)
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no.such.module:decode", "decoder 'no.such.module:decode': no module named 'no'"),
        (f"{SAMPLES}:uper", "has no 'uper'; did you mean 'upper'"),
        (f"{SAMPLES}:NO_DECODER", "is of type int, not a function or a class"),
        (f"{SAMPLES}:NotCallable", "a class without __call__"),
        (f"{SAMPLES}:NeedsMore", "is a class that is made without arguments: missing a required argument: 'schema'"),
        (f"{SAMPLES}:late", "is async or a generator"),
        (f"{SAMPLES}:yields", "is async or a generator"),
        (f"{SAMPLES}:one_argument", "is called with the body and the message: too many positional arguments"),
        ("yaml", "decoder 'yaml' must be auto, json, msgpack, cbor, text, bytes, celery, "),
        ("Celary", "or module:attr; did you mean celery?"),
    ],
)
def test_what_cannot_decode_is_told_in_one_line(name: str, says: str) -> None:
    for check in (require_decoder, load_decoder):
        with pytest.raises(ConfigurationError) as raised:
            check(name)
        assert says in str(raised.value)
        assert "\n" not in str(raised.value)
        assert raised.value.exit_code == 2


async def test_each_outcome_is_its_own_message_s() -> None:
    bodies = ["ok a", "raise value", "raise connection", "raise timeout", "reject", "retry 30", "exit"]
    bodies += ["decode-error", "expired", "bad-field", "bad-time", "object", "ok b"]
    async with worker_of(f"{SAMPLES}:steered", lambda job: str(type(job.payload))) as worker:
        assert worker.asks_message
        [part], rows = await whole(worker, parcels(*sent(*bodies)))
    assert [(row["key"], row["message_type"]) for row in rows] == [("k-a", "T"), ("m11", None), ("k-b", "T")]
    ends = {bodies[one.position]: (one.verdict, one.reason) for one in part.failures}
    assert ends == {
        "raise value": ("dead", "decoder_failed"),
        "raise connection": ("retry", "exception"),
        "raise timeout": ("retry", "exception"),
        "reject": ("dead", "rejected"),
        "retry 30": ("retry", "retry_requested"),
        "exit": ("dead", "decoder_failed"),
        "decode-error": ("dead", "no_invoice"),
        "expired": ("dead", "expired"),
        "bad-field": ("dead", "bad_field"),
        "bad-time": ("dead", "bad_field"),
    }
    [value] = [one for one in part.failures if bodies[one.position] == "raise value"]
    assert (value.error, value.error_class, value.message_id) == ("told to raise", "ValueError", "m1")
    assert "in steered: raise" in value.traceback
    assert "sample_decoders.py" in value.raised_in
    [asked] = [one for one in part.failures if bodies[one.position] == "retry 30"]
    assert asked.after_s == 30
    assert sorted(part.finished) == list(range(len(bodies)))


async def test_our_own_forms_are_read_as_ours_under_any_decoder() -> None:
    body, kind = encode(Job(id="own", payload="mine"))
    packed, packed_kind = pack([Job(id="p-1", payload=1), Job(id="p-2", payload=2)])
    ours = [parcel(body, content_type=kind), parcel(packed, content_type=packed_kind)]
    for decoder in (f"{SAMPLES}:upper", "celery", "text"):
        async with worker_of(decoder) as worker:
            _, rows = await whole(worker, parcels(*ours))
        assert [row["result"] for row in rows] == ['"mine"', "1", "2"]


def property_list(table: dict[str, bytes], kind: bytes) -> bytes:
    entries = b"".join(bytes([len(name)]) + name.encode() + value for name, value in table.items())
    fields = f.SIZE.pack(len(entries)) + entries + bytes([len(kind)]) + kind
    return f.FLAGS.pack(f.HEADERS | f.TYPE) + fields


async def test_a_decoder_sees_the_whole_message_and_the_plain_body() -> None:
    text = b"S" + (1).to_bytes(4, "big") + b"v"
    envelope = Envelope(raw=property_list({"h": text}, b"invoice"), route=route_of("e", "r"), redelivered=False)
    [whole_one] = sent("show", envelope=envelope)
    squeezed = parcel(gzip.compress(b"ok zip"), content_type="x/y", content_encoding="gzip")
    unknown = parcel(b"ok raw", content_type="x/y", content_encoding="snappy")
    async with worker_of(f"{SAMPLES}:steered") as worker:
        _, rows = await whole(worker, parcels(whole_one, squeezed, unknown))
    assert [row["result"] for row in rows] == ['{"type":"invoice","headers":{"h":"v"}}', '"zip"', '"raw"']


async def test_what_amqp_1_0_encoded_is_taken_out_where_the_message_says_so() -> None:
    value = "\x00Sw\xa1\x06ok ten"
    envelope = Envelope(raw=property_list({}, b"amqp-1.0"), route=b"", redelivered=False)
    async with worker_of(f"{SAMPLES}:steered") as worker:
        _, rows = await whole(worker, parcels(*sent(value, envelope=envelope), *sent(value)))
    assert [row["result"] for row in rows] == ['"ten"', '{"type":null,"headers":{}}']
    for decoder, result in (("text", '"ok ten"'), ("bytes", None)):
        async with worker_of(decoder, lambda job: job.payload if isinstance(job.payload, str) else None) as worker:
            _, rows = await whole(worker, parcels(*sent(value)))
        assert [row["result"] for row in rows] == [result or "null"]


async def test_a_class_is_made_once_and_the_same_body_has_the_same_hash() -> None:
    async with worker_of(f"{SAMPLES}:Counting", lambda job: job.payload) as worker:
        _, rows = await whole(worker, parcels(*sent("a", "a", "b")))
    assert [row["result"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["payload_hash"] == rows[1]["payload_hash"] != rows[2]["payload_hash"]


async def test_a_slow_decoder_gives_back_what_it_has_no_time_for_and_the_loop_goes_on() -> None:
    async with worker_of(f"{SAMPLES}:steered", early_s=0.05) as worker:
        running = asyncio.ensure_future(worker.run("b", parcels(*sent("sleep 0.5", "ok a", "ok b"))))
        beats = 0
        while not running.done():
            await asyncio.sleep(0.01)
            beats += 1
        part, _ = await running
    assert beats > 2, "the event loop was free"
    assert (part.finished, part.returned, part.open) == ([0], [1, 2], 0)


async def test_a_decoder_that_hangs_is_told_before_the_router_ends_its_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with worker_of(f"{SAMPLES}:steered", handler_timeout_s=0.1) as worker:
        with caplog.at_level(logging.WARNING):
            await whole(worker, parcels(*sent("sleep 0.3")))
    assert "The decoder reads message m0 for 0.05 s: " in caplog.text
    assert "time.sleep(float(seconds))" in caplog.text


def test_the_test_kit_takes_decoders_by_name_and_as_they_are() -> None:
    upper = work(lambda job: job.payload, [Message(body=b"a", content_type="x/y")], decoder=f"{SAMPLES}:upper")
    assert upper[0].result == "A"
    [length] = work(lambda job: job.payload, [Message(body=b"abc")], decoder=lambda body, message: len(body))
    assert length.result == 3
    [asis, dead] = work(lambda job: len(job.payload), [Message(body=b"\xff", content_type="x/y"), b"\xc1"])
    assert asis.result == 1
    assert dead.reason == "bad_msgpack"
    [dead] = work(len, [Message(body=b"\xff", content_type="x/y")], unknown_content_type="reject")
    assert dead.reason == "unsupported_content_type"
    with pytest.raises(TimeoutError, match="the decoder read no message for"):
        work(len, [Message(body=b"sleep 1.3", content_type="x/y")], decoder=f"{SAMPLES}:steered", handler_timeout_s=0.1)


def test_the_decoder_of_auto_is_none() -> None:
    assert load_decoder("auto") is None
    require_decoder("auto")
    assert h.COMPRESSION == "compression"
