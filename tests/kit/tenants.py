"""A plain path in virtual time whose jobs call services that may be down; rungs and ticks run by themselves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal

from rabbitray.actors.message.parcel import Shipment, unpack_parcels
from rabbitray.actors.publisher import EncodedMessage
from rabbitray.actors.router.settlement.retries import RetryLimits
from tests.kit.fake_broker import FakeBroker, Stored
from tests.kit.fake_workers import FakeWorker, Reply
from tests.kit.plain_path import PlainPath, mixed
from tests.kit.result_rows import key_of
from tests.kit.shifted_clock import ShiftedClock

Ends = Literal["done", "retry", "dead"]


class TimedBroker(FakeBroker):
    """Each rung sends its messages back when their time is over."""

    def accept(self, message: EncodedMessage) -> None:
        super().accept(message)
        for delay_ms in self.topology.rung_delays_ms:
            if message.routing_key == self.topology.rung(delay_ms):
                copy = self.queues[message.routing_key][-1]
                asyncio.get_running_loop().call_later(delay_ms / 1000, self._return, message.routing_key, copy)

    def _return(self, rung: str, copy: Stored) -> None:
        self.queues[rung].remove(copy)
        self._put(self.topology.queue, copy)

    def highest(self, header: str) -> Counter[str]:
        """The number that each key has in this header now, wherever its message lies."""
        found: Counter[str] = Counter()
        for message in (one for queue in self.queues.values() for one in queue):
            found[message.key] = max(found[message.key], int(message.headers.get(header, 0)))
        return +found


class VirtualClock(ShiftedClock):
    """Monotonic seconds that jump with the event loop's: real ones now, virtual ones from now on."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._start = super().__call__() - self._loop.time()

    def __call__(self) -> float:
        return self._start + self._loop.time() + self.ahead_s


class Service:
    """What the jobs call. `ends`: how a job of this key ends now; `calls`: when each was called (virtual seconds)."""

    def __init__(self, ends: Callable[[str], Ends], job_s: float) -> None:
        self.ends = ends
        self.job_s = job_s
        self.calls: list[tuple[float, str]] = []
        self.done: dict[str, float] = {}

    def called(self, key: str) -> Ends:
        """One call."""
        now, end = asyncio.get_running_loop().time(), self.ends(key)
        self.calls.append((now, key))
        if end == "done":
            self.done.setdefault(key, now)
        return end


class CallingWorker(FakeWorker):
    """A worker whose jobs call the service one after another."""

    def __init__(self, service: Service, name: str, *, slots: int = 1) -> None:
        super().__init__(name, slots=slots)
        self.service = service

    async def run(self, batch_id: str, shipment: Shipment) -> Reply:
        parcels = unpack_parcels(shipment)
        keys = [key_of(one) or "" for one in parcels]
        ends: dict[int, Any] = {}
        for position, key in enumerate(keys):
            await asyncio.sleep(self.service.job_s)
            if (end := self.service.called(key)) != "done":
                ends[position] = end
        return mixed(keys, ends, [max(one.attempt, 0) for one in parcels])


@asynccontextmanager
async def calling(
    ends: Callable[[str], Ends], *, job_s: float = 0.01, workers: int = 2, window: int = 20, batch_size: int = 5
) -> AsyncIterator[tuple[PlainPath, Service]]:
    """A path with the default ladder whose router ticks once a second."""
    service = Service(ends, job_s)
    path = PlainPath(outage=True, clock=VirtualClock(), limits=RetryLimits(), broker=TimedBroker, max_hold_s=1e9)
    path.factory.kind = partial(CallingWorker, service)
    await path.start(workers=workers, window=window, batch_size=batch_size)
    ticks = asyncio.create_task(_tick(path))
    try:
        yield path, service
    finally:
        ticks.cancel()
        await path.stop()


async def in_time(predicate: Callable[[], object], within_s: float) -> float:
    """Waits until it is true; the virtual seconds that it took. AssertionError after `within_s` of them."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not predicate():
        assert loop.time() - began < within_s, f"not within {within_s:g} s"
        await asyncio.sleep(0.1)
    return loop.time() - began


async def _tick(path: PlainPath) -> None:
    while True:
        await asyncio.sleep(1)
        path.router.tick()
