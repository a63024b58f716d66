"""How many workers the work needs."""

from __future__ import annotations

import pytest

from rabbitray.autoscale.policy.demand import demand, round_up
from rabbitray.autoscale.policy.signals import PolicyLimits, Rates
from tests.kit.pool_status import seen

LIMITS = PolicyLimits()


def rates(*, arrival: float, speed: float) -> Rates:
    return Rates(arrival=arrival, arrival_error=0.0, speed=speed, throughput=speed, errors=0.0, errors_rising=False)


def test_the_example_in_the_docstring() -> None:
    found = demand(seen(ready=12_000, workers=10), rates(arrival=1_000, speed=100), LIMITS)
    assert found.need == pytest.approx(14.14, abs=0.01)
    assert round_up(found.need) == 15
    little = demand(seen(ready=1_000, workers=10), rates(arrival=1_000, speed=100), LIMITS)
    assert little.need == pytest.approx(11.76, abs=0.01)
