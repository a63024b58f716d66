"""FakeOutbox: the copies that left, and failures that a test can order."""

from __future__ import annotations

import asyncio
from collections import deque

from rabbitray.actors.message.parcel import Record
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.settlement.retries import Rung


class FakeOutbox:
    """Copies that left, and a shared `log` of what happened in which order. `failures`: of the next calls, in order."""

    def __init__(self, log: list[str] | None = None) -> None:
        self.log = log if log is not None else []
        self.retried: list[tuple[Delivery, Record, Rung]] = []
        self.parked: list[tuple[Delivery, Failure, str]] = []
        self.singled: list[tuple[Delivery, Record]] = []
        self.renewed: list[Delivery] = []
        self.failures: deque[Exception | None] = deque()

    async def retry(self, delivery: Delivery, record: Record, rung: Rung) -> None:
        await self._confirm(f"retry {delivery.tag}")
        self.retried.append((delivery, record, rung))

    async def park(self, delivery: Delivery, failure: Failure, reason: str) -> None:
        await self._confirm(f"park {delivery.tag}")
        self.parked.append((delivery, failure, reason))

    async def again(self, delivery: Delivery, record: Record) -> None:
        await self._confirm(f"again {delivery.tag}.{record.record}")
        self.singled.append((delivery, record))

    async def renew(self, delivery: Delivery, *, dropped: bool = False) -> bool:
        await self._confirm(f"renew {delivery.tag}")
        self.renewed.append(delivery)
        return True

    async def _confirm(self, what: str) -> None:
        failure = self.failures.popleft() if self.failures else None
        await asyncio.sleep(0)
        self.log.append(f"{what} failed" if failure else f"{what} confirmed")
        if failure:
            raise failure
