"""What must go on is ended with an exception that nobody expects: that is logged, and the work goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import pytest
from aiormq.abc import ChannelFrame
from pamqp import commands as spec

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.router.holds.vanished import VanishedQueues
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.intake.frame_writer import FrameWriter
from rabbitray.actors.router.settlement.outstanding import OutstandingRetries
from rabbitray.actors.router.upkeep import Upkeep
from rabbitray.actors.telemetry.metrics import MetricsBuffer, Point
from rabbitray.actors.worker.usage import ProcessUsage
from rabbitray.autoscale.loop import AutoscaleLoop
from rabbitray.autoscale.policy.signals import PolicyLimits
from rabbitray.cluster.driver.supervise import Supervised
from tests.kit.eventually import eventually
from tests.kit.fake_opener import FakeOpener, intake_config
from tests.kit.fake_service_actors import FakeMaker
from tests.kit.killed_task import UnexpectedError, kill_task
from tests.kit.virtual_time import in_virtual_time

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Work that was begun as its owner does it. `works` returns once it was seen to work, `end` ends it."""

    name: str
    works: Callable[[], Awaitable[object]]
    end: Callable[[], Awaitable[object]]


class Counted:
    """Each method that a loop calls counts. `goes_on` waits for the next two calls: the first may be an old one's."""

    def __init__(self) -> None:
        self.times = 0

    def tick(self) -> None:
        self.times += 1

    def emit(self, points: Sequence[Point]) -> None:
        self.times += 1

    def cpu_percent(self, interval: float | None = None) -> float:
        self.times += 1
        return 0.0

    def memory_info(self) -> Any:
        return SimpleNamespace(rss=1)

    async def ready(self) -> int | None:
        self.times += 1
        raise RuntimeError("a tick may fail")

    status = ready

    async def goes_on(self) -> None:
        before = self.times
        await eventually(lambda: self.times >= before + 2)


def kept(name: str, work: Callable[[], Any], works: Callable[[], Awaitable[object]]) -> Work:
    """As the actors do it, whose shells need Ray."""
    tasks = BackgroundTasks(log, "What must go on has failed")
    tasks.keep(work, name=name)
    return Work(name=name, works=works, end=tasks.close)


async def router_upkeep() -> Work:
    ticks = Counted()
    parts: Any = SimpleNamespace(
        router=ticks,
        meter=None,
        pool=SimpleNamespace(leave=lambda _: None),
        outstanding=OutstandingRetries(),
        watch=SimpleNamespace(vanished=VanishedQueues()),
    )
    return kept("router-upkeep", Upkeep(parts, on_draining=lambda _: None).run, ticks.goes_on)


def metrics(name: str) -> Work:
    sent = Counted()
    buffer = MetricsBuffer(sent)

    async def works() -> None:
        for _ in range(2):
            before = sent.times
            buffer.record("rabbitray.jobs")
            await eventually(lambda before=before: sent.times > before)

    return kept(name, lambda: buffer.run(asyncio.Event()), works)


async def router_metrics() -> Work:
    return metrics("router-metrics")


async def worker_metrics() -> Work:
    return metrics("worker-metrics")


async def worker_usage() -> Work:
    process = Counted()
    return kept("worker-usage", lambda: ProcessUsage(process).run(asyncio.Event()), process.goes_on)


async def autoscale_loop() -> Work:
    world: Any = Counted()
    loop = AutoscaleLoop(depth=world, pool=world, log=world, limits=PolicyLimits())
    return kept("autoscale-loop", loop.run, world.goes_on)


async def intake_watch() -> Work:
    opener = FakeOpener()
    intake = Intake(intake_config(), on_delivery=lambda _: None, on_lost=lambda _: None, opener=opener)
    await intake.open()

    async def works() -> None:
        before = intake.reconnects
        opener.opened[-1].lost.set()
        await eventually(lambda: intake.reconnects == before + 1)

    return Work(name="intake-watch", works=works, end=intake.close)


async def supervise() -> Work:
    maker = FakeMaker()
    actor = Supervised("p-router", lambda: maker.make(object, "p-router", "start", again=True), maker.end)
    await actor.start()

    async def works() -> None:
        before = actor.restarts
        maker.made["router"][-1].die(RuntimeError("the actor"))
        await eventually(lambda: actor.restarts == before + 1)

    return Work(name="supervise-p-router", works=works, end=actor.stop)


CASES: Final = (
    router_upkeep, router_metrics, worker_metrics, worker_usage, autoscale_loop, intake_watch, supervise,
)  # fmt: skip
KILLED: Final = {case.__name__.replace("_", "-") for case in CASES} | {"intake-late-frames"}


@pytest.mark.parametrize("begin", CASES)
@in_virtual_time
async def test_it_is_logged_and_goes_on(begin: Callable[[], Awaitable[Work]], caplog: pytest.LogCaptureFixture) -> None:
    work = await begin()
    await work.works()
    for text in ("the first kill", "the second kill"):
        await asyncio.sleep(0)
        kill_task(work.name, UnexpectedError(text))
        await eventually(lambda text=text: text in caplog.text)
        await work.works()
    await work.end()


@in_virtual_time
async def test_frames_that_wait_are_queued_in_order_after_all(caplog: pytest.LogCaptureFixture) -> None:
    queue: asyncio.Queue[Any] = asyncio.Queue(1)
    queue.put_nowait("full")
    channel: Any = SimpleNamespace(number=1, is_closed=False, connection=SimpleNamespace(write_queue=queue))
    writer = FrameWriter(channel)
    for tag in (1, 2):
        writer.write([spec.Basic.Ack(tag)])
    await asyncio.sleep(0)
    kill_task("intake-late-frames", UnexpectedError("the first kill"))
    await eventually(lambda: "it begins again" in caplog.text)
    assert queue.get_nowait() == "full"
    expected = [ChannelFrame.marshall(channel_number=1, frames=[spec.Basic.Ack(tag)]) for tag in (1, 2)]
    assert [(await queue.get()).payload for _ in expected] == [frame.payload for frame in expected]
