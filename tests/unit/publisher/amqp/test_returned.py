"""A message that came back is found whatever its id: by destination, body and headers."""

from __future__ import annotations

from typing import Any

from msgspec import structs
from pamqp import encode

from rabbitray.actors.message.properties.property_list import Properties, from_raw
from rabbitray.actors.publisher.amqp.returned import Returned
from rabbitray.actors.publisher.config import PublisherConfig
from rabbitray.actors.publisher.message import EncodedMessage, Outgoing
from rabbitray.actors.publisher.message_maker import Maker
from tests.kit.raw_amqp import BEYOND, entry, properties, scalar

MAKER = Maker(PublisherConfig(url="amqp://127.0.0.1:1/", queue="q"))


def sent(body: bytes = b"x", **changes: Any) -> Outgoing:
    plain: dict[str, Any] = {"message_id": "one", "exchange": "ex", "routing_key": "rung", "headers": {"tenant": "a"}}
    return MAKER.message(EncodedMessage(body=body, **(plain | changes)))


def back(out: Outgoing) -> Returned:
    """The message as RabbitMQ returns it."""
    return Returned(method=out.method, properties=from_raw(out.header[12:]), body=out.body, reason="312 NO_ROUTE")


def rewritten(out: Outgoing) -> Returned:
    """The same, its header table written anew: in another order, numbers with other types."""
    sent = from_raw(out.header[12:])
    other = from_raw(properties(encode.field_table(sent.headers or {}), b"one"))
    return Returned(
        method=out.method, properties=structs.replace(sent, raw=other.raw), body=out.body, reason="312 NO_ROUTE"
    )


def found(returned: Returned, *outs: Outgoing) -> list[int]:
    return returned.among(dict(enumerate(outs, 1)), range(1, len(outs) + 1))


def test_of_two_under_one_id_the_one_that_came_back_is_found() -> None:
    first = sent()
    others = (
        sent(b"y"),
        sent(routing_key="other"),
        sent(exchange=""),
        sent(headers={"tenant": "b"}),
        sent(headers={"tenant": "a", "x-rabbitray-key": "k"}),
        sent(content_type="text/plain"),
        sent(content_encoding="gzip"),
    )
    for other in others:
        assert found(back(other), first, other) == [2]
        assert found(back(first), other, first) == [2]


def test_one_whose_headers_were_written_anew_on_the_way_is_found() -> None:
    first, other = sent(headers={"b": 2**40, "a": "x"}), sent(headers={"b": 2**40, "a": "y"})
    assert found(rewritten(other), first, other) == [2]


def test_one_with_headers_that_nobody_can_read_is_found() -> None:
    first, other = (sent(entries=entry(b"when", scalar("T", stamp))) for stamp in BEYOND[:2])
    assert found(back(other), first, other) == [2]


def test_of_two_that_agree_in_everything_each_is_found_once() -> None:
    first, second = sent(), sent()
    assert found(back(second), first, second) == [1]
    first.returned = "312 NO_ROUTE"
    assert found(back(second), first, second) == [2]


def test_where_none_agrees_all_under_its_id_count_as_returned() -> None:
    """A broker that writes headers of its own. Sent again they may be there twice; confirmed, one would be lost."""
    strange = Returned(method=b"", properties=Properties(message_id="one"), body=b"changed on the way", reason="312")
    assert found(strange, sent(), sent(message_id="two"), sent(b"y")) == [1, 3]
