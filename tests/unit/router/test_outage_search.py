"""What an outage hold does to a whole queue, in virtual time: bad tenants before good ones, and a service that is down.

The virtual loop jumps from timer to timer: five minutes of holds, probes and rungs pass in a second or two.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from rabbitray.actors.message import headers as h
from tests.kit.tenants import Ends, calling, in_time
from tests.kit.virtual_time import in_virtual_time

BAD = [f"bad-{n}" for n in range(500)]
GOOD = [f"good-{n}" for n in range(300)]


def by_tenant(key: str) -> Ends:
    return "retry" if key.startswith("bad") else "done"


@in_virtual_time
async def test_good_messages_behind_hundreds_that_must_fail_are_found_and_never_charged() -> None:
    async with calling(by_tenant) as (path, service):
        path.publish(*BAD, *GOOD)
        await in_time(lambda: service.done, within_s=300)
        await in_time(lambda: len(service.done) == len(GOOD), within_s=30)
        assert set(path.broker.highest(h.ATTEMPT)) <= set(BAD)
        assert path.dead() == []
        await in_time(lambda: len(path.rows()) == len(GOOD), within_s=1)


@in_virtual_time
async def test_good_messages_that_come_later_flow_too_while_the_bad_ones_stay() -> None:
    async with calling(by_tenant) as (path, service):
        path.publish(*BAD[:100])
        await in_time(lambda: "outage" in path.router.holds, within_s=10)
        for key in GOOD[:5]:
            path.publish(key)
            await in_time(lambda key=key: key in service.done, within_s=150)
            await asyncio.sleep(20)
        assert set(path.rows()) == set(GOOD[:5])


@in_virtual_time
async def test_good_messages_among_many_bad_ones_flow_although_the_hold_comes_again_and_again() -> None:
    mixed = [name for n in range(100) for name in (GOOD[n], *BAD[5 * n : 5 * n + 5])]
    good = {name for name in mixed if name.startswith("good")}
    async with calling(by_tenant, window=50) as (path, service):
        path.publish(*mixed)
        await in_time(lambda: service.done.keys() == good, within_s=120)
        assert set(path.broker.highest(h.ATTEMPT)) <= set(BAD)
        assert path.dead() == []


@pytest.mark.slow
@in_virtual_time
async def test_an_outage_of_an_hour_charges_nothing_kills_nothing_and_asks_seldom() -> None:
    keys = [f"k{n}" for n in range(25)]
    loop = asyncio.get_running_loop()
    over_at = loop.time() + 3_600
    async with calling(lambda _: "done" if loop.time() >= over_at else "retry") as (path, service):
        path.publish(*keys)
        await asyncio.sleep(3_600)
        charged = path.broker.highest(h.ATTEMPT)
        assert charged.total() < 20, "only what failed before the hold began"
        assert path.broker.highest(h.SPARED).total() > 1_000
        assert path.dead() == []
        most = Counter(int(at // 30) for at, _ in service.calls[25:]).most_common(1)[0][1]
        assert most <= 2 * len(keys)
        await in_time(lambda: len(service.done) == len(keys), within_s=120)
        assert path.rows() == dict.fromkeys(keys, 1)


@in_virtual_time
async def test_jobs_that_are_answered_without_the_service_do_not_let_the_others_be_charged() -> None:
    """Every fiftieth is answered from a cache: it is DONE, and ends the hold in the middle of the outage."""

    def cached(key: str) -> Ends:
        return "done" if int(key) % 50 == 0 else "retry"

    async with calling(cached) as (path, service):
        path.publish(*map(str, range(1, 501)))
        await in_time(lambda: len(service.done) == 10, within_s=900)
        charged = path.broker.highest(h.ATTEMPT)
        assert charged.total() < 20, "only what failed before the first hold"
        assert path.dead() == []


@in_virtual_time
async def test_jobs_that_are_refused_before_the_call_are_dead_letters_and_end_no_hold() -> None:
    def refused(key: str) -> Ends:
        return "dead" if key.startswith("refused") else "retry"

    async with calling(refused) as (path, _):
        path.publish(*BAD[:40], *[f"refused-{n}" for n in range(40)], *BAD[40:80])
        await in_time(lambda: len(path.dead()) == 40, within_s=600)
        assert list(path.router.holds) == ["outage"]
        assert path.broker.highest(h.ATTEMPT).total() - 40 < 20, "the dead letters count the run that they had"
