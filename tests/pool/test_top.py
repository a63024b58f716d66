"""`rabbitray top` on a running pool, on a pseudo-terminal and without one."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from rabbitray import Job
from rabbitray.actors.router.report import RouterReport
from tests.kit.eventually import eventually
from tests.kit.live_commands import LiveCommands, live_commands
from tests.kit.pool_audit import assert_adds_up
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import RunningPool, pool_of
from tests.kit.terminal import terminal


@pytest.mark.ray
@pytest.mark.timeout("240")
@pytest.mark.long  # its frames are in tests/unit/operate
async def test_keys_steer_the_pool_and_frames_need_no_terminal(ray_cluster: str, amqp_url: str, tmp_path: Path) -> None:
    """Keys on a terminal; then `--once` and `--json` without one."""
    loaded = settings_for(amqp_url, tmp_path, min_size=1, initial_size=1)
    environ = {"RAY_ADDRESS": ray_cluster, "RABBITMQ_URL": amqp_url}
    async with pool_of(loaded) as pool:
        await pool.publish(Job(payload={"n": n}) for n in range(50))
        await pool.acked(50)
        await keys_steer(pool, environ)
        assert (await pool.report()).connected
        await pool.publish(Job(payload={"do": "raise", "times": 1}) for _ in range(5))
        await eventually(lambda: told_its_cpu(pool), within_s=30, message="no worker told its CPU")
        await asyncio.to_thread(once_and_json, pool, environ)
        assert_adds_up(await pool.report())
        with live_commands(environ) as live:
            await most_jobs_die_and_then_live(pool, live)


async def most_jobs_die_and_then_live(pool: RunningPool, live: LiveCommands) -> None:
    """Acked is not done: a pool of which every message is dead is degraded, with the error and exit code 1."""
    name = pool.loaded.settings.pool
    acked = (await pool.report()).counts.acked
    await pool.publish(Job(payload={"do": "permanent", "text": "no field 'name'"}) for _ in range(120))
    await pool.acked(acked + 120)
    ran = await asyncio.to_thread(live.run, "status", "--queue", name)
    assert ran.code == 1
    assert f"pool {name} on queue {name}: degraded" in ran.out
    assert (
        "  ! 100 of the last 100 jobs that ended are dead letters, the last 120 one after another; "
        "100 lately: ValueError: no field 'name'"
    ) in ran.out
    once = await asyncio.to_thread(live.ask, "top", "--queue", name, "--once")
    assert "● degraded" in once
    assert "keeping up" not in once
    await pool.publish(Job(payload={"n": n}) for n in range(50))
    report = await pool.acked(acked + 170)
    assert (report.endings.dead, report.endings.too_many_dead) == (50, False)
    assert_adds_up(report)
    assert "healthy" in await asyncio.to_thread(live.ask, "status", "--queue", name)


async def keys_steer(pool: RunningPool, environ: dict[str, str]) -> None:
    name = pool.loaded.settings.pool
    async with terminal("top", "--queue", name, environ=environ) as screen:
        await eventually(lambda: f"{name}-worker-0001" in screen.text, within_s=30, message="no frame")
        await eventually(lambda: "● healthy" in screen.text and "50 done" in screen.text, message="not well")
        screen.press("p")
        await does(pool, lambda report: "paused" in report.holds)
        await eventually(lambda: "! paused: rabbitray top" in screen.text, message="the pause is not shown")
        screen.press("r")
        await does(pool, lambda report: not report.holds)
        screen.press("+")
        await does(pool, lambda report: report.pool.target == 2)
        await eventually(lambda: "fixed at 2" in screen.text, message="the fixed size is not shown")
        screen.press("-")
        await does(pool, lambda report: report.pool.target == 1)
        screen.press("a")
        await eventually(lambda: "the autoscaler decides" in screen.text, message="not given back")
        screen.press("dn")
        await eventually(lambda: "not drained" in screen.text, message="the question was not asked")
        screen.press("q")
        await eventually(lambda: screen.process.returncode is not None, message="q does not quit")
        assert screen.process.returncode == 0
        assert "goes on" in screen.text


async def does(pool: RunningPool, fits: Callable[[RouterReport], bool]) -> None:
    async def seen() -> bool:
        return fits(await pool.report())

    await eventually(seen, within_s=20, message="the pool does not do what the key says")


async def told_its_cpu(pool: RunningPool) -> bool:
    """Whether a part carried a reading; a job each time, since only parts carry one."""
    await pool.publish([Job(payload={"n": 1})])
    return any(worker.cpu_percent is not None for worker in (await pool.report()).workers)


def once_and_json(pool: RunningPool, environ: dict[str, str]) -> None:
    name, file = pool.loaded.settings.pool, str(pool.loaded.settings.results)
    with live_commands(environ) as live:
        assert live.ask("status", "--queue", name, "--ready") == "ready\n"
        once = live.ask("top", "--queue", name, "--once")
        as_json = json.loads(live.ask("top", "--queue", name, "--json"))
        # through the store: the pool runs
        (row,) = json.loads(live.ask("replay", "--recorded", "--queue", name, "--results", file, "--json"))
    assert all(cell_len(line) <= 80 for line in once.splitlines())
    assert f"{name}-worker-0001" in once
    assert re.search(r"ready .* \d+% +\d+ MB", once)  # this machine's worker: CPU and memory are known
    assert as_json["pool"] == name
    assert 0 < as_json["write_ms"]["p50"] <= as_json["write_ms"]["p95"]
    assert all(worker["rss_bytes"] > 1_000_000 for worker in as_json["workers"])
    assert row["messages"] >= 5
