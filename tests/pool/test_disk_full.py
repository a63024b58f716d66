"""A full disk under a whole pool: it pauses, acks nothing, and goes on by itself when there is room again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from rabbitray.actors.message.job import Job
from tests.kit.eventually import eventually
from tests.kit.pool_audit import finished, lost_and_duplicated
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import RunningPool, pool_of
from tests.kit.small_disk import resize, small_disk

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.usefixtures("ray_cluster")]

COUNT = 600
BULK = 30_000  # bytes of each result: 18 MB in all, on a disk of 8 MiB
LOOK_ON_S = 2.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as place:
        yield place


async def on_hold(pool: RunningPool) -> str:
    """Why the store makes the pool wait; empty when it does not."""
    return str((await pool.report()).holds.get("store", ""))


async def standing(pool: RunningPool) -> int:
    """The count of acked messages when it stood still, with the pool on hold, for LOOK_ON_S; else 0.

    The first holds may end: DuckDB opens its file again, which may free the space that its log took.
    """
    loop, began = asyncio.get_running_loop(), await pool.report()
    ends = loop.time() + LOOK_ON_S
    report = began
    while loop.time() < ends:
        if "store" not in report.holds or report.counts.acked != began.counts.acked:
            return 0
        await asyncio.sleep(0.05)
        report = await pool.report()
    return report.counts.acked


async def test_a_full_disk_pauses_the_pool_which_goes_on_when_there_is_room(amqp_url: str, disk: Path) -> None:
    jobs = [Job(id=f"job-{n}", payload={"do": "bulk", "bytes": BULK}) for n in range(COUNT)]
    async with pool_of(settings_for(amqp_url, disk, batch_size=10, prefetch_count=60)) as pool:
        await pool.publish(jobs)
        reason = await eventually(lambda: on_hold(pool), within_s=30, message="the full disk was not noticed")
        acked = await eventually(lambda: standing(pool), within_s=60, message="the pool did not stop on a full disk")
        assert acked < COUNT
        resize(disk, "120m")
        await eventually(lambda: finished(pool, COUNT), within_s=60, message="the pool did not go on")
        report = await pool.report()
        assert not report.holds
        assert (report.counts.done, report.counts.dead, report.counts.retried) == (COUNT, 0, 0)
        assert await lost_and_duplicated(pool, COUNT) == (0, 0)
        sizes = pool.rows("SELECT min(octet_length(encode(result->>'bulk'))) AS least FROM results")
        assert sizes == [{"least": BULK}], "no result is torn"
    assert reason.startswith("cannot commit now, nothing was acknowledged: ")
    assert "\n" not in reason, "what `status` shows is one line"
