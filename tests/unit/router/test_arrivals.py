"""What is known of the clocks of producers, out of what came."""

from __future__ import annotations

import pytest

from rabbitray.actors.router.arrivals import Arrivals
from tests.kit.deliveries import delivery

HOUR_MS = 3_600_000


def test_messages_of_a_clock_that_is_ahead_are_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    arrivals = Arrivals()
    for ahead_ms in (0, 300, HOUR_MS, HOUR_MS):
        arrivals.count(delivery(ahead_ms=ahead_ms))
    assert (arrivals.ahead, arrivals.ahead_ms) == (2, HOUR_MS)
    assert caplog.text.count("clock is 3600 s ahead") == 1


def test_how_long_the_newest_message_took_is_of_those_that_come_for_the_first_time() -> None:
    arrivals = Arrivals()
    assert arrivals.newest_ms is None
    arrivals.count(delivery(published_ms=1_000, received_ms=5_000))
    for again in ({"redelivered": True}, {"returned": True}):
        arrivals.count(delivery(published_ms=1_000, received_ms=9_000, **again))
    arrivals.count(delivery())  # its producer says nothing
    assert arrivals.newest_ms == 4_000
