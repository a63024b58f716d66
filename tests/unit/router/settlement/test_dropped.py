"""What the broker dropped and could not be collected at once."""

from __future__ import annotations

from typing import Any

import pytest

from rabbitray.actors.message.properties.property_list import from_raw
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.settlement.dropped import Collector, dropped
from tests.kit.deliveries import delivery
from tests.kit.eventually import eventually
from tests.kit.fake_opener import FakeAmqpChannel, FakeOpener, deliver, intake_config
from tests.kit.raw_amqp import BEYOND, entry, long, scalar, table
from tests.kit.raw_amqp import properties as raw_properties


class _Failing:
    """A settler that fails once, in a way that nobody foresaw."""

    def __init__(self) -> None:
        self.parked: list[Delivery] = []

    async def park(self, delivery: Delivery, failure: object) -> None:
        self.parked.append(delivery)
        if len(self.parked) == 1:
            raise KeyError("unforeseen")


async def test_what_could_not_be_collected_is_given_back_and_said(caplog: pytest.LogCaptureFixture) -> None:
    settler = _Failing()
    as_settler: Any = settler
    channel = FakeAmqpChannel()
    opener = FakeOpener(channel)
    collector = Collector(intake_config(), lambda _: as_settler, again_s=0.01, opener=opener)
    await collector.start()
    deliver(opener.opened[0], 1)
    deliver(opener.opened[0], 2)
    await eventually(lambda: channel.returned() == [1])
    assert [one.tag for one in settler.parked] == [1, 2]
    assert "was not collected" in caplog.text
    await collector.close()


def test_one_with_unreadable_headers_is_told_as_such_and_by_whom_it_was_dropped() -> None:
    """What RabbitMQ wrote beside them can be read."""
    death = entry(b"reason", long("S", b"expired")) + entry(b"queue", long("S", b"jobs"))
    headers = {b"x-death": long("A", long("F", death)), b"when": scalar("T", BEYOND[0])}
    properties = from_raw(raw_properties(table(headers)))
    one = delivery(1, properties=properties, refused=f"unreadable_headers: {properties.unreadable}")
    failure = dropped(one)
    assert (failure.reason, failure.error_class) == ("unreadable_headers", "BrokerDrop")
    assert failure.error.startswith("dead-lettered by the broker from jobs: expired; unreadable_headers: header 'when'")
