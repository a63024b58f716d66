"""The whole path as plain classes over fakes: broker, intake, router, pool, settler, store. No Ray, no network."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.keys import DEFAULT_RULE, KeyRule
from rabbitray.actors.message.reply import Failure, Part
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.config import RouterConfig
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.dispatch.pool import Pool, PoolConfig
from rabbitray.actors.router.dispatch.quarantine import Quarantine
from rabbitray.actors.router.holds.outage import OutageLimits
from rabbitray.actors.router.router import Router
from rabbitray.actors.router.settlement.copies import CopyOutbox
from rabbitray.actors.router.settlement.outstanding import OutstandingRetries
from rabbitray.actors.router.settlement.retries import RetryLimits
from rabbitray.actors.router.settlement.settler import Settler
from tests.kit.eventually import eventually
from tests.kit.fake_broker import FakeBroker
from tests.kit.fake_intake import FakeIntake
from tests.kit.fake_recorder import FakeRecorder
from tests.kit.fake_sender import FakeSender
from tests.kit.fake_store import FakeStore
from tests.kit.fake_workers import FakeFactory, FakeWorker
from tests.kit.result_rows import key_of, rows_of
from tests.kit.shifted_clock import ShiftedClock

LIMITS = RetryLimits(rungs_ms=(100, 200), max_retries=2)


class PlainPath:
    """Everything put together as the router's actor does it; the test plays broker, workers and store."""

    def __init__(
        self,
        *,
        max_in_flight: int = 2,
        slots: int = 1,
        auto: bool = True,
        outage: bool = False,
        before: PlainPath | None = None,
        clock: ShiftedClock | None = None,
        limits: RetryLimits = LIMITS,
        broker: Callable[[Topology], FakeBroker] = FakeBroker,
        rule: KeyRule = DEFAULT_RULE,
        **config: Any,
    ) -> None:
        """`before`: the path whose broker and store this one takes over."""
        self.rule = rule
        self.clock = clock or ShiftedClock()
        self.topology = self._topology(limits)
        self.broker = before.broker if before else broker(self.topology)
        self.store = before.store if before else FakeStore()
        self.outstanding = OutstandingRetries(self.store.controls.get("retries_out"))
        self.intake = self._intake()
        self.recorder = FakeRecorder(self.store)
        self.sender = self._sender()
        self.factory = FakeFactory(auto=auto, slots=slots)
        self.pool: Pool[pa.Table] = self._pool("w", max_in_flight)
        self.isolated: Pool[pa.Table] = self._pool("qu", 1)
        self.quarantine: Quarantine[pa.Table] = Quarantine(
            self.isolated, max_crashes=2, counts=before.crashes if before else {}, note=self.store.set_control
        )
        self.limits = limits
        self.settler = self.settler_for(self.intake)
        self.router: Router[pa.Table] = Router(
            RouterConfig(**{"batch_timeout_ms": 0.0, "outage": OutageLimits(enabled=outage)} | config),
            source=self.intake,
            pool=self.pool,
            writer=self.recorder,
            settler=self.settler,
            quarantine=self.quarantine,
            outstanding=self.outstanding,
            clock=self.clock,
            cpu_clock=lambda: 0.0,
        )

    def _topology(self, limits: RetryLimits) -> Topology:
        return Topology(queue="q", rung_delays_ms=limits.rungs_ms)

    def _intake(self) -> Any:
        return FakeIntake(self.broker, on_delivery=self._receive, on_lost=self._lost, rule=self.rule)

    def _sender(self) -> Any:
        return FakeSender(self.broker)

    def _way_again(self) -> Any:
        """Who declares again what a copy found missing."""
        return None

    def _large(self) -> Any:
        """Who publishes what lies in files."""
        return None

    def settler_for(self, acks: Any) -> Settler:
        """A settler whose acks go there."""
        return Settler(
            self.limits,
            self.topology.queue,
            acks=acks,
            outbox=CopyOutbox(
                self.sender,
                self.topology,
                large=self._large(),
                outstanding=self.outstanding,
                way_again=self._way_again(),
            ),
            record_dead_letters=self.recorder.record_dead_letters,
            rule=self.rule,
        )

    def _pool(self, name: str, most: int) -> Pool[pa.Table]:
        config = PoolConfig(name=name, max_tasks_in_flight_per_actor=most)
        return Pool(config, self.factory, on_change=lambda: self.router.wake())

    def _receive(self, delivery: Delivery) -> None:
        self.router.receive(delivery)

    def _lost(self, generation: int) -> None:
        self.router.drop(generation)

    async def start(self, *, workers: int = 1, window: int = 10, batch_size: int = 5) -> None:
        """Opens everything and consumes."""
        await self.store.open()
        self.recorder.epoch = await self.store.register("router")
        await self.intake.open()
        self.pool.resize(workers)
        await self.router.start(window, batch_size)
        if self.factory.auto:
            await eventually(lambda: self.pool.count("ready") == workers)

    async def stop(self, within_s: float = 0.0) -> None:
        """Ends everything; nothing may be left running. `within_s`: for what is in flight."""
        self.store.release()
        await self.router.drain(within_s)
        await asyncio.gather(self.pool.stop(0.01), self.isolated.stop(0.01))
        await self._close()

    async def _close(self) -> None:
        """Ends the connections."""
        await self.intake.close()

    @property
    def crashes(self) -> dict[str, int]:
        """The lone crashes that the store keeps."""
        return {name: count for name, count in self.store.controls.items() if isinstance(count, int) and count}

    def publish(self, *keys: str, **headers: Any) -> None:
        """One message for each key."""
        for key in keys:
            self.broker.publish(b"{}", headers, message_id=key)

    @property
    def alive(self) -> list[FakeWorker]:
        """Workers that are not ended."""
        return [worker for worker in self.factory.workers if worker.lost is None and not worker.stopped]

    @property
    def running(self) -> list[tuple[FakeWorker, str]]:
        """(worker, batch) in hand now, oldest first."""
        return [(worker, batch) for worker in self.alive for batch in worker.batches]

    async def batch(self) -> tuple[FakeWorker, str]:
        """Waits for a batch to arrive at a worker."""
        return (await eventually(lambda: self.running))[0]

    def keys(self, batch_id: str) -> list[str]:
        """The keys of a batch."""
        worker = next(worker for worker in self.factory.workers if batch_id in worker.batches)
        return [key_of(one) or "" for one in worker.batches[batch_id]]

    async def work(self) -> None:
        """Finishes whatever arrives until the broker is empty."""

        def step() -> bool:
            for worker, batch_id in self.running:
                worker.done(batch_id)
            return self.at_rest

        await eventually(step, message="the path did not come to rest")

    @property
    def at_rest(self) -> bool:
        """Nothing ready, nothing unacknowledged."""
        return not self.broker.ready and not self.broker.unacked and not self.running

    def rows(self) -> Counter[str]:
        """How many result rows each key has."""
        return Counter(str(row["key"]) for row in self.store.results)

    def in_queue(self, name: str) -> list[str]:
        """Keys of the copies in a queue."""
        return [str(one.headers.get(h.KEY, one.message_id)) for one in self.broker.queues[name]]

    def dead(self) -> list[str]:
        """Keys in the dead-letter queue."""
        return self.in_queue(self.topology.dead_queue)

    def in_rungs(self) -> list[str]:
        """Keys in the rungs."""
        return [key for delay in self.topology.rung_delays_ms for key in self.in_queue(self.topology.rung(delay))]


def fails(position: int, key: str, *, verdict: Any = "retry", attempt: int = 0) -> Failure:
    """What a worker says of a job that failed."""
    return Failure(
        position=position,
        verdict=verdict,
        reason="exception" if verdict == "retry" else "rejected",
        error="told to",
        error_class="ConnectionError",
        category="transient",
        attempt=attempt,
        key=key,
    )


def mixed(keys: list[str], failing: dict[int, Any], attempts: list[int]) -> tuple[Part, pa.Table]:
    """A whole batch: `failing` positions with their verdict, the rest DONE."""
    done = [position for position in range(len(keys)) if position not in failing]
    failures = [fails(n, keys[n], verdict=verdict, attempt=attempts[n]) for n, verdict in failing.items()]
    part = Part(rows=len(done), row_positions=done, failures=failures, finished=list(range(len(keys))), jobs=len(keys))
    return part, rows_of([keys[position] for position in done])
