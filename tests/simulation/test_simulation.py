"""Histories of the whole spine: those that once found something, some hundred new ones; in `make faults` thousands.

A failing history prints its seed and its shortest script: put that into kept.py, or call `run` with it.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.simulation.draw import script_of
from tests.simulation.kept import KEPT
from tests.simulation.script import Script
from tests.simulation.shrink import shrunk
from tests.simulation.world import run

HISTORIES = 300
IN_FAULTS = 5_000  # for each of ROUNDS
FIXED_SEEDS = range(100)


@pytest.mark.parametrize("name", KEPT)
def test_a_history_that_once_found_something(name: str) -> None:
    found = run(KEPT[name])
    assert found is None, f"{found}\n{KEPT[name].text()}"


@pytest.mark.slow
def test_the_same_histories_each_time() -> None:
    for seed in FIXED_SEEDS:
        _must_be_well(seed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_histories_that_nobody_has_seen() -> None:
    rounds = int(os.environ.get("ROUNDS", "0"))
    first = random.SystemRandom().randrange(10**9)
    for seed in range(first, first + (rounds * IN_FAULTS or HISTORIES)):
        _must_be_well(seed)


def _must_be_well(seed: int) -> None:
    script = script_of(seed)
    if (found := run(script)) is None:
        return
    smallest = shrunk(script, lambda one: _breaks(one, found[0]))
    pytest.fail(f"seed {seed}: {found}\nshrunk: {run(smallest)}\n{smallest.text()}")


def _breaks(script: Script, rule: str) -> bool:
    found = run(script)
    return found is not None and found[0] == rule
