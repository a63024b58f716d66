"""A results file that is moved, and then cut off, under a whole pool: nothing is acked, and the end says so."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pyarrow as pa
import pytest

from rabbitray.actors.errors import QueryError
from rabbitray.actors.message.job import Job
from rabbitray.actors.remote.calls import answer
from tests.kit.eventually import eventually
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import RunningPool, pool_of

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.usefixtures("ray_cluster")]

COUNT = 50


def jobs(name: str) -> list[Job]:
    return [Job(id=f"{name}-{n}", payload={"do": "ok"}) for n in range(COUNT)]


async def asked(pool: RunningPool, sql: str) -> pa.Table:
    """Through the store's actor, as `rabbitray query` does it."""
    return await answer(pool.service.store.actor, pool.service.store.name, "query", sql, 10, 60.0)


async def held(pool: RunningPool, *, why: str) -> str:
    """The reason of the store's hold, once it is this one; and while it lasts no more is acked."""

    async def reason() -> str:
        found = str((await pool.report()).holds.get("store", ""))
        return found if why in found else ""

    found = await eventually(reason, within_s=30, message="the store did not notice")
    acked = (await pool.report()).counts.acked
    await asyncio.sleep(1.0)
    assert (await pool.report()).counts.acked == acked
    return found


async def test_a_pool_without_its_results_file_acks_nothing(amqp_url: str, tmp_path: Path) -> None:
    loaded = settings_for(amqp_url, tmp_path, batch_size=10, prefetch_count=20, drain_deadline_s=5)
    path = loaded.settings.results
    async with pool_of(loaded) as pool:
        await pool.publish(jobs("a"))
        await pool.acked(COUNT)
        assert (await asked(pool, "SELECT count(*) AS n FROM results")).to_pylist() == [{"n": COUNT}]
        with pytest.raises(QueryError, match="more memory than a query may take"):
            await asked(pool, "WITH a AS (" * 14)
        away = path.rename(path.with_name("away.duckdb"))
        await pool.publish(jobs("b"))
        assert "put it back" in await held(pool, why="was moved away or removed")
        assert not path.exists(), "no new one was made"
        away.rename(path)
        await pool.acked(2 * COUNT)
        os.truncate(path, 12)
        await pool.publish(jobs("c"))
        await held(pool, why="it has 12 bytes")
        assert (await pool.report()).counts.acked == 2 * COUNT
        assert not (await pool.stop()).clean
    assert path.stat().st_size == 12, "what is left of it is left alone"
