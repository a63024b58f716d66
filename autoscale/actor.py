"""Autoscaler: the loop as a Ray actor, between the router's pool and the store's decision log."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.rabbitmq.depth import DepthLink, DepthProbe
from rabbitray.actors.remote.boot import Boot, Flush, ray_attributes
from rabbitray.actors.remote.calls import NamedActor
from rabbitray.actors.remote.nodes import cluster_room, growable
from rabbitray.actors.remote.placement.kind import WorkerKind
from rabbitray.actors.remote.placement.room import beside_tasks, placeable, places_beside_tasks, room
from rabbitray.actors.remote.threads import RayThread
from rabbitray.actors.router.status import PoolStatus
from rabbitray.actors.secret import Secret
from rabbitray.actors.telemetry.ray_metrics import Metering
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.autoscale.loop import AutoscaleLoop, DecisionRecord, Pace
from rabbitray.autoscale.policy.signals import FOR_TASKS, PolicyLimits
from rabbitray.autoscale.policy.window import WindowLimits
from rabbitray.autoscale.queue_meter import QueueMeter

actor_log = logging.getLogger(__name__)

REASONS_KEPT = 20
OTHERS_MOST = 20
LOOK_ENDS_WITHIN_S = 2.0
FLUSH_WITHIN_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerSetup:
    """Everything that the autoscaler's process needs."""

    pool: str
    namespace: str
    queue: str
    url: Secret
    boot: Boot
    metering: Metering = field(default_factory=Metering)
    kinds: tuple[WorkerKind, ...] = (WorkerKind(),)
    can_grow_nodes: bool = False
    cpus_for_tasks: float = 0.0
    limits: PolicyLimits = field(default_factory=PolicyLimits)
    window: WindowLimits = field(default_factory=WindowLimits)
    pace: Pace = field(default_factory=Pace)


class Autoscaler:
    """Decides how many workers there are and how wide the window is. The pool works on without it."""

    def __init__(self, setup: AutoscalerSetup) -> None:
        self._setup = setup
        self._flush: Flush = setup.boot("autoscaler", ray_attributes("Autoscaler", f"{setup.pool}-autoscaler"))
        self._tracing = Tracing(queue=setup.queue)
        self._link = DepthLink(setup.url, f"how much waits in {setup.queue}")
        self._probe = DepthProbe(setup.url, setup.queue, link=self._link)
        self._others: dict[str, DepthProbe] = {}
        self._store = NamedActor(f"{setup.pool}-store", setup.namespace)
        self._router = NamedActor(f"{setup.pool}-router", setup.namespace)
        self._thread = RayThread("cluster-room")  # the depth's connection is on this event loop
        self._decided: deque[DecisionRecord] = deque(maxlen=REASONS_KEPT)
        self._done = asyncio.Event()
        self._tasks = BackgroundTasks(actor_log, "The autoscaler has stopped looking")
        self._run: asyncio.Task[None] | None = None
        self._size = 0  # workers at the last look
        self._metrics = setup.metering.recorder()
        self._loop = AutoscaleLoop(
            depth=self._probe,
            pool=self,
            log=self,
            limits=setup.limits,
            window_limits=setup.window,
            pace=setup.pace,
            on_look=QueueMeter(self._metrics).look,
        )

    async def start(self) -> list[str]:
        """Reads the fixed size, if one is set, and begins to look."""
        control = await self._store.call("control")
        size = control.get("fixed_size")
        if isinstance(size, int):
            self._loop.fix(size)
        self._run = self._tasks.keep(self._loop.run, name="autoscale-loop")
        return []

    async def fix(self, size: int | None) -> int | None:
        """Holds the pool at `size`, or decides again (None); survives a restart.

        Returns the size that is held: `size` within `min_size` and `max_size`.
        """
        held = None if size is None else self._loop.limits.bounded(size)
        await self._store.call("set_control", "fixed_size", held)
        return self._loop.fix(held)

    async def wake(self) -> None:
        """Looks now."""
        self._loop.wake()

    async def decisions(self) -> list[DecisionRecord]:
        """The last decisions, newest last."""
        return list(self._decided)

    async def depths(self, queues: Sequence[str]) -> list[int | None]:
        """Messages ready now in each of these queues of ours, as the pool's own broker says it; None for what is not
        known.
        """
        return [await self._probe_of(queue).ready() for queue in queues]

    async def broker(self) -> Secret:
        """The URLs of the broker that the pool works with, for a command on a node that knows of none."""
        return self._link.urls

    def _probe_of(self, queue: str) -> DepthProbe:
        if queue == self._setup.queue:
            return self._probe
        if len(self._others) >= OTHERS_MOST:
            self._others.clear()
        return self._others.setdefault(queue, DepthProbe(self._setup.url, queue, link=self._link))

    async def status(self) -> PoolStatus:
        """The pool at this moment, with what the cluster can still place."""
        seen: PoolStatus = await self._router.call("status")
        fits, short, more = await self._thread.call(self._room, seen)
        self._size = seen.workers + seen.starting
        return replace(
            seen,
            at=asyncio.get_running_loop().time(),
            placeable=fits,
            growable=more,
            short=short,
            can_grow_nodes=self._setup.can_grow_nodes,
        )

    async def resize(self, target: int, reason: str) -> None:
        """Aims at `target` workers."""
        with self._tracing.resize_span(had=self._size, wanted=target, reason=reason):
            await self._router.call("resize", target, reason)

    async def widen(self, window: int, batch_size: int, *, backlog: bool, hand_over: bool) -> None:
        """Uses this window and batch size."""
        await self._router.call("widen", window, batch_size, backlog, hand_over)

    async def decide(self, record: DecisionRecord) -> None:
        """Keeps one decision, here and in the `decisions` table."""
        self._decided.append(record)
        at = datetime.fromtimestamp(record.at, UTC)
        row: dict[str, object] = {
            "decided_at": at,
            "pool": self._setup.pool,
            "inputs": asdict(record),
            "current": record.had + record.starting,
            "wanted": record.wanted,
            "reason": record.reason,
            "in_effect_at": at if record.event == "in_effect" else None,
        }
        await self._store.call("decide", [row])

    async def watch(self) -> str:
        """Lasts as long as this actor works."""
        await self._metrics.run(self._done)
        return "stopped"

    async def stop(self) -> None:
        """Ends the loop, a look that hangs too, and sends what traces and metrics are left."""
        self._loop.stop()
        if self._run is not None:
            await asyncio.wait({self._run}, timeout=LOOK_ENDS_WITHIN_S)
            self._run.cancel()
        await self._link.close()
        self._metrics.flush()
        await asyncio.get_running_loop().run_in_executor(None, self._flush, FLUSH_WITHIN_S)
        self._done.set()

    def _room(self, seen: PoolStatus) -> tuple[int, str | None, int | None]:
        """Workers that the cluster has room for now, what keeps it from more, and what node types may still bring.

        What is left for the tasks of handlers is no room, whether these run just now or not.
        """
        kinds = self._setup.kinds
        more = growable(kinds[0]) if self._setup.can_grow_nodes else None
        found = cluster_room(without=seen.silent)
        free, have = room(found.free, kinds)[0], room(found.have, kinds)[0]
        there = seen.workers - seen.silent_workers + seen.starting + seen.lent
        fits, short = placeable(free, have, there), " and ".join(free.short) or None
        most = beside_tasks(found.have, kinds[0], self._setup.cpus_for_tasks)
        if most is not None and (places := places_beside_tasks(most, there, seen.retiring)) < fits:
            fits, short = places, FOR_TASKS
        return fits, short, more

    def __repr__(self) -> str:
        return f"Autoscaler({self._setup.pool}-autoscaler)"
