"""Publishes the demo's load: two waves with a lull between, so that the pool grows, shrinks and grows again."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator

from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import Publisher
from rabbitray.actors.router.meter import PublishMeter
from rabbitray.cluster.demo.jobs import reference_jobs
from rabbitray.cluster.driver import compose
from rabbitray.cluster.driver.driver import Driver

FIRST_WAVE = 0.6
LOOK_S = 0.25
SHRINKS_WITHIN_S = 15.0


class Waves:
    """Publishes `messages` jobs in two waves, then waits until all are worked."""

    def __init__(self, messages: int) -> None:
        self._messages = messages
        self.published = 0
        self._busy_s = 0.0  # while a wave was published and worked

    def throughput(self) -> float:
        """Messages per second while there was work."""
        return round(self.published / self._busy_s, 1) if self._busy_s else 0.0

    async def __call__(self, driver: Driver) -> None:
        """Runs beside the pool."""
        jobs = reference_jobs(self._messages)
        first = round(self._messages * FIRST_WAVE)
        metrics = compose.metering(driver.loaded).recorder()
        async with Publisher(compose.publisher(driver.loaded.settings), sink=PublishMeter(metrics)) as publisher:
            await self._wave(publisher, driver, itertools.islice(jobs, first))
            await self._lull(driver)
            await self._wave(publisher, driver, jobs)
            await self._lull(driver)

    async def _wave(self, publisher: Publisher, driver: Driver, jobs: Iterator[Job]) -> None:
        began = time.monotonic()
        sent = await publisher.publish_many(jobs)
        self.published += len(sent.confirmed)
        for failed in sent.failed:
            raise failed.error
        while True:
            report, ready = await driver.look()
            if ready == 0 and report and report.counts.acked >= self.published and not report.pool.held:
                self._busy_s += time.monotonic() - began
                return
            await asyncio.sleep(LOOK_S)

    async def _lull(self, driver: Driver) -> None:
        """Waits until the pool is back at its least size, for a while at most."""
        deadline = time.monotonic() + SHRINKS_WITHIN_S
        while time.monotonic() < deadline:
            report, _ = await driver.look()
            if report is None or report.pool.target <= driver.loaded.settings.min_size:
                return
            await asyncio.sleep(LOOK_S)
