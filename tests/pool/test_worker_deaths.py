"""What a worker died of, on real nodes: one that stays, one that is drained, one that ends, one whose memory is full.

Real: only Ray knows how long it calls a node alive whose processes end, and whom its memory monitor ends with what
words.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from rabbitray.actors.message.job import Job
from rabbitray.actors.message.reply import Part, WorkerInfo, encode_part
from rabbitray.actors.router.delivery import Batch
from rabbitray.actors.router.dispatch.isolation import SPARED_MOST
from rabbitray.actors.router.dispatch.member import WorkerLostError
from rabbitray.actors.router.dispatch.pool import Pool, PoolConfig
from rabbitray.actors.router.dispatch.workers import RayWorker, WorkerThreads
from tests.kit.deliveries import delivery
from tests.kit.eventually import eventually
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import pool_of
from tests.kit.second_node import occupied, on, second_node

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout("300")]


class Waiting:
    """A worker whose job never ends."""

    async def ready(self) -> WorkerInfo:
        """Where it runs."""
        return WorkerInfo(slots=1, pid=os.getpid(), node=ray.get_runtime_context().get_node_id())

    async def wall_clock(self) -> float:
        """That of this machine."""
        return time.time()

    async def correct_clock(self, ahead_s: float) -> None:
        """Nothing is told by it here."""

    async def ended(self) -> None:
        """Never by itself."""
        await asyncio.Event().wait()

    @ray.method(num_returns=2)
    async def run(self, batch_id: str, shipment: bytes) -> tuple[bytes, None]:
        """The first part: the job runs."""
        return encode_part(Part(open=1, executing=[0])), None

    @ray.method(num_returns=2)
    async def more(self, batch_id: str) -> tuple[bytes, None]:
        """Nothing more comes."""
        await asyncio.Event().wait()
        return b"", None


class OnNode:
    """Starts such workers on one node."""

    def __init__(self, node: str) -> None:
        self._class = ray.remote(Waiting).options(num_cpus=0, scheduling_strategy=on(node))

    def spawn(self, name: str) -> RayWorker:
        """One more of them."""
        created: Future[Any] = Future()
        created.set_result(self._class.remote())
        return RayWorker(name, created, WorkerThreads())


class OneWorker:
    """A pool of one worker on a node, which has a batch in hand."""

    def __init__(self, node: str) -> None:
        self.pool: Pool[Any] = Pool(PoolConfig(name="w"), OnNode(node), on_change=lambda: None)
        self._running: asyncio.Task[None] | None = None

    async def works(self) -> int:
        """Its process, once the batch is there."""
        self.pool.resize(1)
        member = await eventually(self.pool.pick, within_s=60, message="the worker did not start")
        assert member is not None
        assert member.info is not None
        told = asyncio.Event()

        async def run() -> None:
            async for _ in self.pool.run(member, Batch([delivery(1)])):
                told.set()

        self._running = asyncio.create_task(run())
        await told.wait()
        self.pool.target = 0  # whoever dies is not replaced
        return member.info.pid

    async def loss(self) -> WorkerLostError:
        """What is made of its death."""
        assert self._running is not None
        with pytest.raises(WorkerLostError) as caught:
            await self._running
        await self.pool.stop(0.1)
        return caught.value


def drain(address: str, node: str) -> None:
    """Tells Ray that the node is about to be preempted; it stays alive."""
    command = [str(Path(sys.executable).with_name("ray")), "drain-node", "--address", address, "--node-id", node]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
    command += ["--deadline-remaining-seconds", "600"]
    subprocess.run(command, check=True, capture_output=True)


async def test_a_crash_is_suspect_where_its_node_stays(ray_cluster: str) -> None:
    one = OneWorker(ray.get_runtime_context().get_node_id())
    os.kill(await one.works(), signal.SIGKILL)
    loss = await one.loss()
    assert (loss.reason, loss.may_be_poison) == ("worker_crashed", True)


@pytest.mark.long
async def test_a_crash_on_a_node_that_is_drained_accuses_nobody(ray_cluster: str) -> None:
    with second_node(ray_cluster, cpus=1) as node:
        one = OneWorker(node.id)
        pid = await one.works()
        await asyncio.to_thread(drain, ray_cluster, node.id)
        os.kill(pid, signal.SIGKILL)
        loss = await one.loss()
        assert (loss.reason, loss.may_be_poison) == ("node_lost", False)


async def test_the_end_of_a_node_accuses_nobody(ray_cluster: str) -> None:
    """Its processes are told to end one by one, as when a machine is shut down."""
    with second_node(ray_cluster, cpus=1) as node:
        one = OneWorker(node.id)
        await one.works()
        node.terminate()
        loss = await one.loss()
        assert (loss.reason, loss.may_be_poison) == ("node_lost", False)


def little_memory(more_gb: float) -> dict[str, str]:
    """Of a node that is full when the machine uses so much more than now."""
    memory = psutil.virtual_memory()
    share = (memory.total - memory.available + more_gb * 2**30) / memory.total
    return {"RAY_memory_usage_threshold": f"{share:.4f}", "RAY_memory_monitor_refresh_ms": "100"}


@pytest.mark.long
async def test_a_job_that_takes_more_memory_than_there_is_is_parked_and_its_neighbours_finish(
    amqp_url: str, ray_cluster: str, tmp_path: Path
) -> None:
    home = ray.get_runtime_context().get_node_id()
    loaded = settings_for(amqp_url, tmp_path, initial_size=1, min_size=1, max_size=1, batch_size=10, max_crashes=1)
    jobs = [Job(id=f"job-{n}", payload={"n": n}) for n in range(20)]
    jobs.insert(5, Job(id="hog", payload={"do": "hog", "gb": 8, "file": str(tmp_path / "pids")}))
    with second_node(ray_cluster, cpus=3, environ=little_memory(more_gb=2.0)), occupied(home):
        async with pool_of(loaded) as pool:
            await pool.publish(jobs)
            report = await pool.acked(len(jobs), within_s=150)
            assert (report.counts.done, report.counts.dead, report.counts.retried) == (20, 1, 0)
            await pool.stop()
    assert pool.rows("SELECT max(attempts) AS runs, count(*) AS n FROM results") == [{"runs": 1, "n": 20}]
    (dead,) = pool.rows("SELECT key, reason, error FROM dead_letters")
    assert (dead["key"], dead["reason"]) == ("hog", "out_of_memory")
    found = re.search(r"needs more than ([\d.]+) GB", dead["error"])
    assert found is not None
    assert float(found[1]) > 0.5
    runs = len((tmp_path / "pids").read_text().split())
    assert 2 <= runs <= 2 + SPARED_MOST, "once among others, once alone, and where others filled the machine"
