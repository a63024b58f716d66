"""Ray's own troubles, on real parts: its memory monitor ends our actors, its GCS gives no answer.

What each error of Ray means is tested without Ray (tests/unit/remote, tests/unit/driver). Which errors come, from which
call, and which of its calls block, only Ray can say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import ray

from rabbitray.actors.message.job import Job
from rabbitray.actors.store.read_only import read_only_query
from tests.kit.eventually import eventually
from tests.kit.pool_audit import finished, lost_and_duplicated
from tests.kit.pool_settings import settings_for
from tests.kit.root import ROOT
from tests.kit.running_pool import RunningPool, pool_of

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout("900")]

MONITOR = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "60000"}
"""Once a minute the monitor finds the node full and ends every worker process on it, ours and the user's."""

STANDS_STILL_S = 12.0


async def test_the_memory_monitor_ends_router_and_store(amqp_url: str, tmp_path: Path) -> None:
    count = 120
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.kit.memory_monitor_child", amqp_url, str(tmp_path), str(count)),
        cwd=ROOT, env=os.environ | MONITOR, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await child.communicate()
    assert child.returncode == 0, err.decode()[-4000:]
    restarts = json.loads(out.splitlines()[-1])
    assert all(restarts[role] for role in ("store", "router", "autoscaler")), restarts
    assert b"low on memory" in err, "it was the monitor"
    keys = read_only_query(tmp_path / "results.duckdb", "SELECT key, count(*) AS n FROM results GROUP BY key")
    assert {row["key"]: row["n"] for row in keys.to_pylist()} == {f"job-{n}": 1 for n in range(count)}


@pytest.mark.usefixtures("ray_cluster")
async def test_no_event_loop_stands_still_while_the_gcs_does(amqp_url: str, tmp_path: Path) -> None:
    """The router asks for eight workers, loses one and kills what is left of it: all of that waits for the GCS."""
    count = 400
    loaded = settings_for(amqp_url, tmp_path, min_size=1, initial_size=2, max_size=8, batch_size=5)
    async with pool_of(loaded) as pool:
        await pool.publish([Job(id=f"job-{n}", payload={"do": "slow", "s": 0.1}) for n in range(count)])
        await eventually(lambda: _acked(pool, 10), within_s=90)
        router: Any = pool.service.router.actor
        victim = next(worker.pid for worker in (await pool.report()).workers if worker.pid)
        async with _gcs_standing_still():
            await router.resize.remote(8, "the test asks for eight")
            os.kill(victim, signal.SIGKILL)
            slowest_s = await _slowest_answer(router, for_s=STANDS_STILL_S)
        assert slowest_s < STANDS_STILL_S / 2, "a loop that waits for the GCS answers when that is back"
        await eventually(lambda: finished(pool, count), within_s=240)
        assert (await pool.report()).reconnects == 0
        assert await lost_and_duplicated(pool, count) == (0, 0)


async def _acked(pool: RunningPool, count: int) -> bool:
    return await pool.acked_so_far() >= count


@contextlib.asynccontextmanager
async def _gcs_standing_still() -> AsyncIterator[None]:
    (gcs,) = ray._private.worker._global_node.all_processes["gcs_server"]  # the GCS of this test run's Ray
    os.kill(gcs.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(gcs.process.pid, signal.SIGCONT)


async def _slowest_answer(router: Any, *, for_s: float) -> float:
    """Seconds of the longest answer of the router, our own event loop's delays included."""
    began, slowest_s = time.monotonic(), 0.0
    while (asked_at := time.monotonic()) - began < for_s:
        await router.status.remote()
        await asyncio.sleep(0.1)
        slowest_s = max(slowest_s, time.monotonic() - asked_at - 0.1)
    return slowest_s
