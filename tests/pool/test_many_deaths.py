"""Some dozen messages that end or block their worker, among 3,400: what that costs, for each kind of handler.

Real: that processes die in so many ways, and at any moment of a shipment, is what no double does.
"""

from __future__ import annotations

import logging
import random
import time
from pathlib import Path

import pytest

from rabbitray.actors.message.job import Job
from tests.kit.eventually import eventually
from tests.kit.pool_settings import HANDLE, HANDLE_ASYNC, HANDLE_BATCH, settings_for
from tests.kit.running_pool import RunningPool, pool_of

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.long,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.timeout("900"),
]

MESSAGES = 3_400
MAX_CRASHES = 2
ENDS = ["die"] * 4 + ["segfault"] * 3 + ["killed"] * 2
BLOCKS = ["spin"] * 2 + ["stuck"]

log = logging.getLogger(__name__)


def jobs_with(kinds: list[str], folder: Path, seed: int) -> list[Job]:
    """Innocents, and one killer of each kind somewhere among them, which notes its process in `folder`."""
    jobs = [Job(id=f"job-{n}", payload={"n": n}) for n in range(MESSAGES - len(kinds))]
    jobs += [
        Job(id=f"{kind}-{n}", payload={"do": kind, "file": str(folder / f"{kind}-{n}.pids")})
        for n, kind in enumerate(kinds)
    ]
    random.Random(seed).shuffle(jobs)
    return jobs


def workers_that_died(folder: Path) -> int:
    """Processes that a killer has run in."""
    return len({pid for path in folder.glob("*.pids") for pid in path.read_text().split()})


async def worked_off(pool: RunningPool, killers: int) -> bool:
    """Whether all innocents are done and all killers parked."""
    report = await pool.report()
    return (report.counts.done, report.counts.dead, report.pool.held) == (MESSAGES - killers, killers, 0)


@pytest.mark.parametrize(
    ("handler", "packed", "kinds"),
    [
        pytest.param(HANDLE, 0, ENDS + BLOCKS, id="sync"),
        pytest.param(HANDLE_ASYNC, 0, ENDS + BLOCKS, id="async"),
        pytest.param(HANDLE_BATCH, 0, ENDS + BLOCKS, id="batch"),
        pytest.param(HANDLE, 50, ENDS, id="packed"),
    ],
)
async def test_each_killer_costs_so_many_workers_and_no_more(
    amqp_url: str, tmp_path: Path, handler: str, packed: int, kinds: list[str]
) -> None:
    loaded = settings_for(amqp_url, tmp_path, initial_size=3, max_size=3, handler_timeout_s=2, max_crashes=MAX_CRASHES)
    async with pool_of(loaded, handler) as pool:
        began = time.monotonic()
        await pool.publish(jobs_with(kinds, tmp_path, seed=17), packed=packed)
        await eventually(lambda: worked_off(pool, len(kinds)), within_s=600, message="not worked off")
        log.warning("%s: %d killers parked after %.0f s", handler, len(kinds), time.monotonic() - began)
        assert await pool.empty()
        assert (await pool.report()).counts.retried == 0, "nobody went into a rung"
        await pool.stop()
    rows = pool.rows("SELECT key, attempts FROM results")
    assert sorted(row["key"] for row in rows) == sorted(f"job-{n}" for n in range(MESSAGES - len(kinds)))
    assert {row["attempts"] for row in rows} == {1}
    dead = pool.rows("SELECT key FROM dead_letters ORDER BY key")
    assert [row["key"] for row in dead] == sorted(f"{kind}-{n}" for n, kind in enumerate(kinds))
    deaths = workers_that_died(tmp_path)
    log.warning("%s: %d workers died", handler, deaths)
    assert deaths <= len(kinds) * (MAX_CRASHES + 1)
