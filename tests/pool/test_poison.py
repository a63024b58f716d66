"""Poison of every kind among innocents: only the killers are parked, and nobody else pays for them.

`make test` gives each kind to one sort of handler (a crash costs seconds), `make faults` all kinds to both; `stuck`
is for the synchronous one alone.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from rabbitray.actors.message.job import Job
from tests.kit.eventually import eventually
from tests.kit.pool_settings import HANDLE, HANDLE_ASYNC, settings_for
from tests.kit.running_pool import RunningPool, pool_of

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.timeout("600"),
]

INNOCENTS = 200 if "ROUNDS" in os.environ else 60


def among_innocents(folder: Path, kinds: list[str]) -> list[Job]:
    """INNOCENTS, and one poison of each kind, spread over them; it notes its process in `folder`."""
    jobs = [Job(id=f"job-{n}", payload={"n": n}) for n in range(INNOCENTS)]
    for number, kind in enumerate(kinds, 1):
        poison = Job(id=kind, payload={"do": kind, "file": str(folder / kind)})
        jobs.insert(number * INNOCENTS // (len(kinds) + 1), poison)
    return jobs


async def worked_off(pool: RunningPool, *, dead: int) -> bool:
    """Whether all innocents are done and so many are parked."""
    report = await pool.report()
    return (report.counts.done, report.counts.dead, report.pool.held) == (INNOCENTS, dead, 0)


def ran_in(folder: Path, kind: str) -> list[int]:
    """Process ids in which this poison ran."""
    return [int(line) for line in (folder / kind).read_text().split()]


async def only_the_killers_are_parked(pool: RunningPool, folder: Path, kinds: list[str], reason: str) -> None:
    """Each innocent has one row of its first run, each poison one grave; the blocked processes are gone."""
    await eventually(lambda: worked_off(pool, dead=len(kinds)), within_s=200, message="not worked off")
    assert await pool.empty()
    assert (await pool.report()).counts.retried == 0, "nobody went into a rung"
    await pool.stop()
    rows = pool.rows("SELECT key, attempts, result->>'attempt' AS attempt FROM results")
    assert sorted(row["key"] for row in rows) == sorted(f"job-{n}" for n in range(INNOCENTS))
    assert {(row["attempts"], row["attempt"]) for row in rows} == {(1, "0")}
    dead = pool.rows("SELECT key, reason, attempts FROM dead_letters ORDER BY key")
    assert dead == [{"key": kind, "reason": reason, "attempts": 1} for kind in sorted(kinds)]
    pids = [pid for kind in kinds for pid in ran_in(folder, kind)]
    await eventually(lambda: not any(map(psutil.pid_exists, pids)), message="a killer still runs")


@pytest.mark.parametrize(
    ("handler", "few"),  # an asynchronous one is killed in test_path.py
    [(HANDLE, ["segfault"]), pytest.param(HANDLE_ASYNC, ["killed"], marks=pytest.mark.long)],
)
async def test_what_ends_the_process_is_parked_as_a_crash(
    amqp_url: str, tmp_path: Path, handler: str, few: list[str], rounds: int
) -> None:
    kinds = ["die", "segfault", "killed"] if rounds > 1 else few
    loaded = settings_for(amqp_url, tmp_path, batch_size=8)
    async with pool_of(loaded, handler) as pool:
        await pool.publish(among_innocents(tmp_path, kinds))
        await only_the_killers_are_parked(pool, tmp_path, kinds, "worker_crashed")
    for kind in kinds:
        assert len(ran_in(tmp_path, kind)) >= 3, "once among others, and max_crashes times alone"


@pytest.mark.parametrize(
    ("handler", "few", "all_kinds"),
    [(HANDLE, ["stuck"], ["spin", "stuck"]), pytest.param(HANDLE_ASYNC, ["spin"], ["spin"], marks=pytest.mark.long)],
)
async def test_what_blocks_the_process_is_parked_as_a_time_out(
    amqp_url: str, tmp_path: Path, handler: str, few: list[str], all_kinds: list[str], rounds: int
) -> None:
    """Without end in Python or in C: neither can be cancelled, and the latter stops the whole process."""
    kinds = all_kinds if rounds > 1 else few
    few_slots = 4  # what a killed worker held is suspect: the fewer, the fewer run alone
    loaded = settings_for(
        amqp_url, tmp_path, batch_size=2, handler_timeout_s=1, max_crashes=1, queue_concurrency=few_slots
    )
    async with pool_of(loaded, handler) as pool:
        await pool.publish(among_innocents(tmp_path, kinds))
        await only_the_killers_are_parked(pool, tmp_path, kinds, "handler_timeout")
