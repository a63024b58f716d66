"""Publishing at a given rate, each message at its time, whatever happens to the others."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from bench.pool import jobs
from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.publisher import Publisher
from rabbitray.cluster.driver import compose
from rabbitray.cluster.settings import Loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What came of it: `failed` were not confirmed; `took_s` until the last confirm; `late_s` behind the clock."""

    sent: int
    failed: int
    took_s: float
    late_s: float


async def publish_at(loaded: Loaded, rate: float, seconds: float, *, payload: object = None) -> Sent:
    """Publishes evenly; messages per second and seconds."""
    async with Publisher(compose.publisher(loaded.settings)) as publisher:
        began = time.perf_counter()
        sent: list[asyncio.Future[None]] = []
        late_s = 0.0
        for number, job in enumerate(jobs(round(rate * seconds), payload=payload)):
            ahead = began + number / rate - time.perf_counter()
            late_s = max(late_s, -ahead)
            if ahead > 0:
                await asyncio.sleep(ahead)
            sent.append(publisher.submit(job))
        ends = await asyncio.gather(*sent, return_exceptions=True)
    failed = sum(isinstance(end, RabbitrayError) for end in ends)
    return Sent(sent=len(ends), failed=failed, took_s=time.perf_counter() - began, late_s=late_s)
