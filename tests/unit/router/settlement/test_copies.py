"""The copies that leave for a rung or the dead letters: their identity, and headers that can travel."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands as spec

from rabbitray.actors.errors import EncodeError, RefusedError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.publisher import EncodedMessage
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.settlement.copies import FOREIGN_MOST_BYTES, CopyOutbox, copy_of, spared_before
from rabbitray.actors.router.settlement.retries import Rung
from tests.kit.deliveries import delivery

FRAME = 131_072
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def failure(**changes: Any) -> Failure:
    plain = {"verdict": "dead", "reason": "r", "error": "e", "error_class": "E", "category": "permanent"}
    return Failure(position=0, **(plain | changes))


def copied(one: Delivery, failed: Failure, **own: Any) -> EncodedMessage:
    return copy_of(one, failed, own, "ex", "rk")


@pytest.mark.parametrize("key", ["k", None])
def test_a_copy_keeps_the_message_id_of_the_producer(key: str | None) -> None:
    """People know it by that id; where the body was not read and no key is known, it may be the identity."""
    copy = copied(delivery(1, message_id="m"), failure(key=key))
    assert (copy.message_id, copy.headers.get(h.KEY)) == ("m", key)


def test_a_copy_of_a_message_without_an_id_gets_one() -> None:
    assert copied(delivery(1, message_id=None), failure(key="k")).message_id


def test_a_record_alone_never_takes_the_key_header_of_its_packed_message() -> None:
    table = {h.KEY: "forged for all", h.RECORDS: 2}
    one = delivery(1, key="forged for all", message_id=None, properties=spec.Basic.Properties(headers=table))
    copy = copied(one, failure(key=None, body=b"record", content_type=h.MSGPACK))
    assert not {h.KEY, h.RECORDS} & copy.headers.keys()
    assert copy.body == b"record"


def test_headers_of_the_producer_travel_on() -> None:
    one = delivery(1, properties=spec.Basic.Properties(headers={"tenant": "a", "x-death": [{}], "CC": ["q"]}))
    copy = copied(one, failure(key="k"))
    assert copy.headers["tenant"] == "a"
    assert not {"x-death", "CC", h.HEADERS_CUT} & copy.headers.keys()


@pytest.mark.parametrize("foreign", ["x" * 70_000, "ä" * 40_000, [""] * 20_000, {str(n): n for n in range(10_000)}])
def test_headers_that_are_too_large_stay_behind_and_ours_travel(foreign: Any) -> None:
    table = {"big": foreign, "tenant": "a", h.REPLAYS: 3, h.TRACEPARENT: TRACE, h.RECORDS: 5}
    one = delivery(1, properties=spec.Basic.Properties(headers=table), traceparent=TRACE, replays=3, records=5)
    copy = copied(one, failure(key="k"), **{h.REASON: "too_large"})
    ours = {h.REPLAYS: 3, h.TRACEPARENT: TRACE, h.KEY: "k", h.REASON: "too_large", h.HEADERS_CUT: 2, h.RECORDS: 5}
    assert ours.items() <= copy.headers.items()
    assert "tenant" not in copy.headers


def test_what_travels_leaves_room_in_the_frame_for_ours() -> None:
    assert FOREIGN_MOST_BYTES <= FRAME - 32 * 1024


def test_properties_that_grew_while_they_were_read_are_left_out() -> None:
    long = "\ufffd" * 255  # 255 bytes that were no UTF-8
    copy = copied(delivery(1, content_type=long, content_encoding=long, message_id=long), failure(key=None))
    assert (copy.content_type, copy.content_encoding) == (None, None)
    assert len(copy.message_id.encode()) <= 255


class Picky:
    """A publisher that refuses these headers."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.sent: list[EncodedMessage] = []

    async def publish_message(self, message: EncodedMessage) -> None:
        if any(name in message.headers for name in self.refused):
            raise EncodeError("message headers: no AMQP form")
        if h.KEY not in message.headers:
            raise RefusedError("full")
        self.sent.append(message)


async def test_a_header_that_cannot_be_written_holds_up_no_copy() -> None:
    sender = Picky("odd")
    outbox = CopyOutbox(sender, Topology(queue="q", rung_delays_ms=(100,)))
    one = delivery(1, properties=spec.Basic.Properties(headers={"odd": object(), "tenant": "a"}))
    await outbox.retry(one, failure(key="k"), Rung(delay_ms=100, attempt=2))
    [sent] = sender.sent
    assert (sent.headers[h.ATTEMPT], sent.headers[h.HEADERS_CUT]) == (2, 2)
    assert not {"odd", "tenant"} & sent.headers.keys()


@pytest.mark.parametrize("foreign", ["a", "x" * 70_000])
async def test_how_often_a_failure_was_not_charged_travels_on_until_the_end(foreign: str) -> None:
    sender = Picky()
    outbox = CopyOutbox(sender, Topology(queue="q", rung_delays_ms=(100,)))
    await outbox.retry(delivery(1), failure(key="k"), Rung(delay_ms=100, attempt=2, spared=7))
    assert (sender.sent[0].headers[h.SPARED], sender.sent[0].headers[h.ATTEMPT]) == (7, 2)
    one = delivery(1, properties=spec.Basic.Properties(headers={h.SPARED: 7, "tenant": foreign}))
    assert spared_before(one) == 7
    await outbox.retry(one, failure(key="k"), Rung(delay_ms=100, attempt=2, due_ms=1))
    assert sender.sent[1].headers[h.SPARED] == 7, "it was not due yet"


@pytest.mark.parametrize(("written", "read"), [(-1, 0), ("7", 0), (True, 0), (None, 0), (10**9, 1_000)])
def test_what_a_producer_writes_there_is_clamped(written: object, read: int) -> None:
    assert spared_before(delivery(1, properties=spec.Basic.Properties(headers={h.SPARED: written}))) == read


async def test_any_other_refusal_is_told() -> None:
    outbox = CopyOutbox(Picky(), Topology(queue="q"))
    with pytest.raises(RefusedError):
        await outbox.park(delivery(1), failure(key=None), "r")
