"""What a worker died of, by real nodes: one that is being drained, one that is told to end, and one that stays.

Real: only Ray knows how long it calls a node alive whose processes end, and what it says of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rabbitray.actors.message.reply import Part, WorkerInfo, encode_part
from rabbitray.actors.router.delivery import Batch
from rabbitray.actors.router.dispatch.member import WorkerLostError
from rabbitray.actors.router.dispatch.pool import Pool, PoolConfig
from rabbitray.actors.router.dispatch.workers import RayWorker
from tests.kit.deliveries import delivery
from tests.kit.eventually import eventually
from tests.kit.second_node import second_node

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout("300")]


class Waiting:
    """A worker whose job never ends."""

    async def ready(self) -> WorkerInfo:
        """Where it runs."""
        return WorkerInfo(slots=1, pid=os.getpid(), node=ray.get_runtime_context().get_node_id())

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
        self._class = ray.remote(Waiting).options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        )

    def spawn(self, name: str) -> RayWorker:
        """One more of them."""
        return RayWorker(self._class.remote())


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
