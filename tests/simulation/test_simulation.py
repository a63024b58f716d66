"""Histories of the whole spine: those that once found something, 200 others; in `make faults` thousands of new ones.

A failing history prints its seed and its shortest script. `run(script_of(SEED))` is the history again; what it showed
goes into kept.py once it is mended.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from tests.simulation.draw import script_of
from tests.simulation.kept import KEPT
from tests.simulation.script import Script
from tests.simulation.shrink import shrunk
from tests.simulation.world import run

FIXED = 100
NEW_IN_FAULTS = 1_000  # in each round


def some_seed() -> int:
    """Another one each time."""
    return random.SystemRandom().randrange(10**9)


@pytest.mark.parametrize("name", KEPT)
def test_a_history_that_once_found_something(name: str) -> None:
    found = run(KEPT[name])
    assert found is None, f"{found}\n{KEPT[name].text()}"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_same_histories_each_time() -> None:
    all_are_well(range(FIXED))


@pytest.mark.long
@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_thousands_of_histories_that_nobody_has_seen(rounds: int) -> None:
    first = some_seed()
    all_are_well(range(first, first + rounds * NEW_IN_FAULTS))


def all_are_well(seeds: Iterable[int]) -> None:
    for seed in seeds:
        script = script_of(seed)
        if (found := run(script)) is not None:
            smallest = shrunk(script, lambda one, rule=found[0]: breaks(one, rule))  # type: ignore[misc]
            pytest.fail(f"seed {seed}: {found}\nshrunk: {run(smallest)}\n{smallest.text()}")


def breaks(script: Script, rule: str) -> bool:
    found = run(script)
    return found is not None and found[0] == rule
