"""`rabbitray top` on a running pool, on a pseudo-terminal."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from rabbitray import Job
from rabbitray.actors.router.report import RouterReport
from tests.kit.eventually import eventually
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import RunningPool, pool_of
from tests.kit.terminal import terminal


class TestLive:
    """`rabbitray top` on a running pool, on a terminal."""

    pytestmark = pytest.mark.timeout("240")

    @pytest.mark.ray
    async def test_keys_steer_the_pool(self, ray_cluster: str, amqp_url: str, tmp_path: Path) -> None:
        loaded = settings_for(amqp_url, tmp_path, min_size=1, initial_size=1)
        name = loaded.settings.pool
        environ = {"RAY_ADDRESS": ray_cluster, "RABBITMQ_URL": amqp_url}
        async with pool_of(loaded) as pool:
            await pool.publish(Job(payload={"n": n}) for n in range(50))
            await pool.acked(50)
            async with terminal("top", "--queue", name, environ=environ) as screen:
                await eventually(lambda: f"{name}-worker-0001" in screen.text, within_s=30, message="no frame")
                await eventually(lambda: "● healthy" in screen.text and "50 done" in screen.text, message="not well")
                screen.press("p")
                await self._report(pool, lambda report: "paused" in report.holds)
                await eventually(
                    lambda: "! paused: rabbitray top" in screen.text, within_s=30, message="the pause is not shown"
                )
                screen.press("r")
                await self._report(pool, lambda report: not report.holds)
                screen.press("+")
                await self._report(pool, lambda report: report.pool.target == 2)
                await eventually(
                    lambda: "fixed at 2" in screen.text, within_s=30, message="the fixed size is not shown"
                )
                screen.press("-")
                await self._report(pool, lambda report: report.pool.target == 1)
                screen.press("a")
                await eventually(lambda: "the autoscaler decides" in screen.text, within_s=30, message="not given back")
                screen.press("dn")
                await eventually(lambda: "not drained" in screen.text, message="the question was not asked")
                screen.press("q")
                await eventually(lambda: screen.process.returncode is not None, message="q does not quit")
                assert screen.process.returncode == 0
                assert "goes on" in screen.text
            assert (await pool.report()).connected

    async def _report(self, pool: RunningPool, fits: Callable[[RouterReport], bool]) -> None:
        async def seen() -> bool:
            return fits(await pool.report())

        await eventually(seen, within_s=20, message="the pool does not do what the key says")

    @pytest.mark.ray
    async def test_once_and_json_need_no_terminal(self, ray_cluster: str, amqp_url: str, tmp_path: Path) -> None:
        loaded = settings_for(amqp_url, tmp_path, min_size=1, initial_size=1)
        name = loaded.settings.pool
        environ = dict(os.environ) | {"RAY_ADDRESS": ray_cluster, "RABBITMQ_URL": amqp_url}
        async with pool_of(loaded) as pool:
            await eventually(lambda: self._ready(pool), within_s=30)
            assert await self._printed("status", "--queue", name, "--ready", environ=environ) == "ready\n"
            await pool.publish(Job(payload={"do": "raise", "times": 1}) for _ in range(5))
            await eventually(lambda: self._told(pool), within_s=30, message="no worker told its CPU")
            once = await self._printed("top", "--queue", name, "--once", environ=environ)
            assert all(cell_len(line) <= 80 for line in once.splitlines())
            assert f"{name}-worker-0001" in once
            assert re.search(r"ready .* \d+% +\d+ MB", once)  # this machine's worker: CPU and memory are known
            as_json = json.loads(await self._printed("top", "--queue", name, "--json", environ=environ))
            assert as_json["pool"] == name
            assert 0 < as_json["write_ms"]["p50"] <= as_json["write_ms"]["p95"]
            file = str(loaded.settings.results)
            replayed = ("replay", "--recorded", "--queue", name, "--results", file, "--json")
            (row,) = json.loads(await self._printed(*replayed, environ=environ))  # through the store: the pool runs
            assert row["messages"] >= 5
            assert all(worker["rss_bytes"] > 1_000_000 for worker in as_json["workers"])

    async def _told(self, pool: RunningPool) -> bool:
        """Whether a part carried a reading; a job each time, since only parts carry one."""
        await pool.publish([Job(payload={"n": 1})])
        return any(worker.cpu_percent is not None for worker in (await pool.report()).workers)

    async def _ready(self, pool: RunningPool) -> bool:
        return any(worker.state == "ready" for worker in (await pool.report()).workers)

    async def _printed(self, *arguments: str, environ: dict[str, str]) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rabbitray", *arguments, env=environ, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await process.communicate()
        assert process.returncode == 0
        return printed.decode()
