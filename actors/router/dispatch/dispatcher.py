"""Dispatcher: forms batches of what waits in the buffer and hands each to a worker."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from rabbitray.actors.router.arrivals import Arrivals
from rabbitray.actors.router.config import RouterConfig
from rabbitray.actors.router.consumption import Consumption
from rabbitray.actors.router.delivery import Batch, Buffer, Delivery
from rabbitray.actors.router.dispatch.arrival_forecast import ArrivalForecast
from rabbitray.actors.router.dispatch.batching import BufferFront, due_in_s
from rabbitray.actors.router.dispatch.member import Member
from rabbitray.actors.router.dispatch.pool import Pool
from rabbitray.actors.router.dispatch.quarantine import Quarantine
from rabbitray.actors.router.dispatch.uncommitted import UncommittedRows
from rabbitray.actors.router.holds.outage import Outage

P = TypeVar("P")

_TIMER_GRACE_S = 0.001  # a timer that fires a little early would find nothing due


class Dispatcher(Generic[P]):
    """Looks when woken and when a wait ends. `run` starts the work on a batch and returns at once.

    `waited` is told at each dispatch how many seconds the median message of the batch waited. `clock`: monotonic
    seconds; `cpu_clock`: seconds of CPU of this thread.
    """

    def __init__(
        self,
        config: RouterConfig,
        *,
        buffer: Buffer,
        pool: Pool[P],
        quarantine: Quarantine[P],
        arrivals: Arrivals,
        outage: Outage,
        consumption: Consumption,
        uncommitted: UncommittedRows,
        run: Callable[[Pool[P], Member[P], Batch], None],
        waited: Callable[[float], None] | None,
        clock: Callable[[], float],
        cpu_clock: Callable[[], float],
    ) -> None:
        self._config, self._clock = config, clock
        self._buffer, self._arrivals = buffer, arrivals
        self._pool, self._quarantine = pool, quarantine
        self._outage, self._consumption, self._uncommitted = outage, consumption, uncommitted
        self._run, self._waited = run, waited
        self._forecast = ArrivalForecast(config.burst_wait_ms, clock(), most_ms=config.batch_timeout_ms, cpu=cpu_clock)
        self._timer: asyncio.TimerHandle | None = None
        self._woken = False
        self.batch_size = 1  # records
        self.backlog = False  # the queue holds more than a window

    @property
    def probes_out(self) -> bool:
        """Whether a probe of an outage is on its way."""
        return any(batch.probe for member in self._pool.members for batch in member.batches.values())

    def in_hand(self) -> Iterator[Delivery]:
        """What workers have."""
        return self._pool.in_hand()

    def expect_burst(self) -> None:
        """Consuming begins: much may arrive at once."""
        self._forecast.expect_burst(self._clock())
        self.wake()

    def wake(self) -> None:
        """Lets the dispatcher look once, after all deliveries that are being read now."""
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Sends out what is due: batches, or probes during an outage, and suspects to the quarantine's worker.

        What another hold finds in the buffer stays there, until that has stopped the consumer and gives it back.
        """
        self._woken = False
        self._forecast.look(self._arrivals.received, self._clock())
        if self._consumption.probing:
            self._send_probes()
        while self._consumption.flowing and (member := self._worker_for_next()) is not None:
            self._send(self._pool, member, Batch(self._buffer.take(self.batch_size, self._config.batch_bytes)))
        if self._consumption.running:
            for pool, member, batch in self._quarantine.next():
                self._send(pool, member, batch)

    def _worker_for_next(self) -> Member[P] | None:
        """The worker that gets a batch now; None when nothing waits or is due, no worker can take one, or too many rows
        wait for the store.
        """
        oldest_at = self._buffer.oldest_at
        if oldest_at is None or (member := self._pool.pick()) is None:
            return None
        left_s = due_in_s(self._front(member, oldest_at), self._config)
        if left_s > 0:
            self._look_again(left_s + _TIMER_GRACE_S)
            return None
        return member if self._uncommitted.have_room(self._pool.open_jobs) else None

    def _front(self, member: Member[P], oldest_at: float) -> BufferFront:
        now, wanted, wait_s = self._clock(), float(self.batch_size), math.inf
        idle = not member.batches
        if idle or member.open_jobs < member.slots:
            each = self._buffer.records / len(self._buffer)
            full, received = self.batch_size / each, self._arrivals.received
            wanted = each * self._forecast.wanted(full, received, now, idle=idle, backlog=self.backlog)
            wait_s = self._forecast.wait_s
        return BufferFront(
            now=now,
            oldest_at=oldest_at,
            records=self._buffer.records,
            size=self._buffer.size,
            wanted=wanted,
            wait_s=wait_s,
        )

    def _look_again(self, in_s: float) -> None:
        """Lets the dispatcher look then, if it does not do so earlier."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + in_s:
                return
            self._timer.cancel()
        self._timer = loop.call_later(in_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._look()

    def _send_probes(self) -> None:
        """During an outage each probe is one message; what this round cannot send any more is given back when nothing
        more comes.
        """
        rounds, now = self._outage.rounds, self._clock()
        while rounds.left(now) and len(self._buffer) and (member := self._pool.pick()) is not None:
            rounds.started(now)
            self._send(self._pool, member, Batch(self._buffer.take(1, self._config.batch_bytes)))

    def _send(self, pool: Pool[P], member: Member[P], batch: Batch) -> None:
        batch.worker, batch.probe = member.name, self._outage.held
        if self._waited is not None:
            self._waited(self._clock() - batch.deliveries[len(batch.deliveries) // 2].arrived_at)
        self._forecast.sent()
        member.batches[batch.id] = batch  # counts at once, before the task runs
        self._run(pool, member, batch)
