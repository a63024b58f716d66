"""A whole pool on real parts for a test: own vhost, own results file, own names in the session's Ray."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import ray

from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import Publisher
from rabbitray.actors.router.report import Drained, RouterReport
from rabbitray.actors.store.read_only import read_only_query
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.cluster.driver import compose
from rabbitray.cluster.driver.driver import Depths
from rabbitray.cluster.driver.service import Service
from rabbitray.cluster.driver.session import Session
from rabbitray.cluster.settings import Loaded
from tests.kit.eventually import eventually
from tests.kit.pool_settings import HANDLE


class RunningPool:
    """One pool and what a test asks of it."""

    def __init__(self, loaded: Loaded, service: Service) -> None:
        self.loaded = loaded
        self.service = service
        self._depths = Depths(loaded)

    async def publish(self, jobs: Iterable[Job], *, packed: bool | int = False, tracer: Tracing | None = None) -> None:
        """Publishes and insists on every confirm."""
        async with Publisher(compose.publisher(self.loaded.settings), tracer=tracer) as publisher:
            report = await publisher.publish_many(jobs, packed=packed)
        assert report.ok, [str(failed.error) for failed in report.failed[:3]]

    async def report(self) -> RouterReport:
        """The router's report; it must be there."""
        report = await self.service.report()
        assert report is not None, "the router gives no report"
        return report

    async def acked_so_far(self) -> int:
        """Messages that the router has acked; 0 while it is being restarted."""
        report = await self.service.report()
        return report.counts.acked if report else 0

    async def acked(self, count: int, *, within_s: float = 60.0) -> RouterReport:
        """Waits until so many messages are acked and nothing is held; the report then."""

        async def settled() -> RouterReport | None:
            report = await self.service.report()
            return report if report and report.counts.acked >= count and not report.pool.held else None

        found = await eventually(settled, within_s=within_s, message=f"not {count} acked")
        assert found is not None
        return found

    async def empty(self) -> bool:
        """Whether queue and rungs are empty."""
        return await self._depths.main() == 0 and await self._depths.rungs() == 0

    def worker_pids(self, report: RouterReport) -> list[int]:
        """Process ids of the workers that are ready."""
        return [worker.pid for worker in report.workers if worker.pid]

    async def stop(self) -> Drained:
        """Drains and ends the pool."""
        await self._depths.close()
        return await self.service.stop()

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Reads the results file, once the pool has stopped."""
        return read_only_query(self.loaded.settings.results, sql).to_pylist()


@contextlib.asynccontextmanager
async def pool_of(loaded: Loaded, handler: str = HANDLE) -> AsyncIterator[RunningPool]:
    """Starts a pool in the session's Ray and ends it."""
    runtime = ray.get_runtime_context()
    session = Session(
        node_id=runtime.get_node_id(),
        job_id=runtime.get_job_id(),
        local=True,
        max_size=loaded.settings.max_size or 4,
        fits=loaded.settings.max_size or 4,
        on_head=True,
        dashboard=None,
    )
    service = Service(loaded, handler, session)
    await service.start()
    pool = RunningPool(loaded, service)
    try:
        yield pool
    finally:
        await pool.stop()
