"""What the broker dropped and could not be collected at once."""

from __future__ import annotations

from typing import Any

import pytest

from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.settlement.dropped import Collector
from tests.kit.eventually import eventually
from tests.kit.fake_opener import FakeAmqpChannel, FakeOpener, deliver, intake_config


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
