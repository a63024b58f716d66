"""Whatever somebody writes into our headers: a message costs a bounded number of copies and runs, and is settled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.message import headers as h
from rabbitray.actors.router.settlement.retries import RetryLimits
from tests.kit.plain_path import PlainPath
from tests.kit.tenants import CallingWorker, Service, TimedBroker, VirtualClock, calling, in_time
from tests.kit.virtual_time import EPOCH_S, VirtualLoop, in_virtual_time, virtual_clock

DAY_S = 86_400
LIMITS = RetryLimits(rungs_ms=(DAY_S * 1000,), max_retries=2)
RUNS = LIMITS.max_retries + 1
TURNS = 30 + 2 * RUNS
"""Copies of one message while the clock runs: for each of 30 days one, and a few for the retries and the end."""

YEAR_3000_MS = 32_503_680_000_000
NOW_MS = (EPOCH_S + 1_000) * 1000  # on the virtual clock

OURS = [*sorted(h._OURS), h.TRACEPARENT, h.TRACESTATE, "x-death"]
numbers = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(
    [YEAR_3000_MS, 0, -1, 1, 2**63 - 1, NOW_MS, NOW_MS + 10**9]
)
values = st.recursive(
    numbers | st.none() | st.booleans() | st.floats(width=32) | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
tables = st.builds(
    lambda due, others: {h.DUE: due} | others,
    numbers | st.just(YEAR_3000_MS),
    st.dictionaries(st.sampled_from(OURS), numbers | values, max_size=len(OURS)),
)


@asynccontextmanager
async def failing(limits: RetryLimits = LIMITS) -> AsyncIterator[tuple[PlainPath, Service]]:
    """A path whose jobs always fail. Nothing ticks: days pass at once."""
    service = Service(lambda _: "retry", job_s=0.01)
    path = PlainPath(clock=VirtualClock(), limits=limits, broker=TimedBroker)
    path.factory.kind = partial(CallingWorker, service)
    await path.start(workers=1, window=5, batch_size=1)
    try:
        yield path, service
    finally:
        await path.stop()


async def settled(path: PlainPath, within_s: float) -> None:
    """Until nothing is left but dead letters."""

    def over() -> bool:
        return path.at_rest and not path.in_rungs() and len(path.dead()) > 0

    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    while not over():
        assert loop.time() < until, f"not within {within_s / DAY_S:.0f} days"
        await asyncio.sleep(DAY_S / 4)


def run(table: dict[str, Any], *, clock: bool, within_days: float) -> tuple[int, int]:
    """How many copies and how many runs one message with these headers cost until it was settled."""

    async def history() -> tuple[int, int]:
        async with failing() as (path, service):
            path.broker.publish(b"{}", table, message_id="forged")
            await settled(path, within_days * DAY_S)
            assert len(path.dead()) == 1
            return path.broker.copies.total(), len(service.calls)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner, ExitStack() as stack:
        if clock:
            stack.enter_context(virtual_clock(runner.get_loop()))
        return runner.run(history())


@given(tables)
def test_any_combination_of_forged_headers_ends(table: dict[str, Any]) -> None:
    copies, runs = run(table, clock=True, within_days=30 + RUNS + 1)
    assert copies <= TURNS
    assert 1 <= runs <= RUNS


def test_a_due_time_in_the_year_3000_is_30_days_away_and_then_it_runs() -> None:
    table = {h.DUE: YEAR_3000_MS, h.FIRST_SEEN: YEAR_3000_MS, h.REPLAYED: YEAR_3000_MS, h.HOPS: -(2**62)}
    copies, runs = run(table, clock=True, within_days=30 + RUNS + 1)
    assert 30 <= copies <= TURNS
    assert runs == RUNS, "it is run, not parked: it may be one that waited rightly"


def test_a_message_goes_round_only_so_often_where_the_clock_stands_still() -> None:
    table = {h.DUE: YEAR_3000_MS}
    copies, runs = run(table, clock=False, within_days=LIMITS.hops_most + RUNS + 1)
    assert copies <= LIMITS.hops_most + RUNS
    assert runs == RUNS


@in_virtual_time
async def test_what_is_not_due_is_counted_and_takes_no_probe_of_a_hold() -> None:
    """Hundreds of forged ones lie between a hold and the first good message."""
    forged = [f"forged-{n}" for n in range(300)]

    def ends(key: str) -> Any:
        return "retry" if key.startswith("bad") else "done"

    async with calling(ends) as (path, service):
        path.publish(*[f"bad-{n}" for n in range(30)])
        await in_time(lambda: "outage" in path.router.holds, within_s=10)
        held_at = len(service.calls)
        path.publish(*forged, **{h.DUE: YEAR_3000_MS})
        path.publish("good")
        await in_time(lambda: "good" in service.done, within_s=60)
        assert path.settler.tally.postponed >= len(forged)
        probes = [key for _, key in service.calls[held_at:]]
        assert len(probes) < 60
        assert not set(probes) & set(forged)


@pytest.mark.parametrize("rungs_ms", [(), (1_000,)])
@in_virtual_time
async def test_without_a_rung_what_is_not_due_keeps_nobody_from_the_window(rungs_ms: tuple[int, ...]) -> None:
    async with failing(RetryLimits(rungs_ms=rungs_ms, max_retries=0)) as (path, service):
        path.publish(*[f"forged-{n}" for n in range(20)], **{h.DUE: int(time.time() * 1000) + 10**8})
        path.publish("other")
        await in_time(lambda: path.dead() and "other" in path.dead(), within_s=60)
        assert len({key for _, key in service.calls}) == (1 if rungs_ms else 21)
