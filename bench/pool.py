"""A whole pool on real parts for a bench: a Ray of its own, a results file of its own, names of its own.

Every bench that needs Ray imports it through this module only: see `private_ray`.
"""

from __future__ import annotations

from bench import private_ray  # first of all

# isort: split

import asyncio
import contextlib
import itertools
import logging
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ray

from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import EncodedMessage, Publisher
from rabbitray.actors.router.report import Drained, RouterReport
from rabbitray.actors.router.status import PoolStatus
from rabbitray.actors.store.read_only import read_only_query
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.cluster.driver import compose
from rabbitray.cluster.driver.driver import Depths
from rabbitray.cluster.driver.service import Service
from rabbitray.cluster.driver.session import Session, connect
from rabbitray.cluster.settings import Loaded, load

__all__ = [
    "BenchPool",
    "Pids",
    "empty_actors",
    "jobs",
    "local_ray",
    "pool_of",
    "private_ray",
    "publish",
    "publish_encoded",
    "settings",
]

T = TypeVar("T")

NOOP = "bench.handlers:noop"
PUBLISH_PART = 10_000
ENCODED_PART = 2_000
LOOK_MOST_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Pids:
    """Process ids of one pool."""

    router: int
    store: int
    autoscaler: int
    workers: tuple[int, ...]

    def groups(self) -> dict[str, tuple[int, ...]]:
        """By kind of process."""
        return {
            "router": (self.router,),
            "store": (self.store,),
            "workers": self.workers,
            "autoscaler": (self.autoscaler,),
        }

    @property
    def all(self) -> tuple[int, ...]:
        """Of all processes."""
        return (self.router, self.store, self.autoscaler, *self.workers)


class BenchPool:
    """One running pool and what a bench asks of it."""

    def __init__(self, loaded: Loaded, service: Service) -> None:
        self.loaded = loaded
        self._service = service
        self._depths = Depths(loaded)

    async def publish(self, many: Iterable[Job], *, packed: int = 0, tracing: Tracing | None = None) -> None:
        """Publishes to the pool's queue and insists on every confirm."""
        await publish(self.loaded, many, packed=packed, tracing=tracing)

    async def pause(self) -> None:
        """Stops consuming."""
        await self._router.pause.remote("bench")

    async def resume(self) -> None:
        """Consumes again."""
        await self._router.resume.remote()

    async def status(self) -> PoolStatus:
        """The pool as its autoscaler sees it; cheaper for the router than `report`."""
        found: PoolStatus = await self._router.status.remote()
        return found

    async def report(self) -> RouterReport:
        """The router's report."""
        report = await self._service.report()
        assert report is not None
        return report

    async def fix(self, size: int | None) -> None:
        """As `rabbitray scale`."""
        assert self._service.autoscaler.actor is not None
        await self._service.autoscaler.actor.fix.remote(size)

    async def decisions(self) -> list[Any]:  # Any: DecisionRecord, through Ray
        """The autoscaler's last decisions, newest last."""
        assert self._service.autoscaler.actor is not None
        return list(await self._service.autoscaler.actor.decisions.remote())

    async def ready(self, workers: int, *, within_s: float = 120.0) -> None:
        """Waits until so many workers are ready and no other one is there."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            seen = await self.status()
            if seen.workers == workers and not seen.starting and not seen.retiring:
                return
            await asyncio.sleep(0.02)
        raise TimeoutError(f"not {workers} workers after {within_s:g} s")

    async def acked(self, count: int, *, within_s: float = 600.0) -> None:
        """Waits until so many messages were acked since the start and none is unacknowledged.

        Looks more often towards the end: within about 1 % of the duration, and 10 ms.
        """
        began = time.monotonic()
        before = (await self.status()).done
        while time.monotonic() - began < within_s:
            seen = await self.status()
            if seen.done >= count and not seen.held:
                return
            rate = max(1.0, (seen.done - before) / max(0.01, time.monotonic() - began))
            await asyncio.sleep(min(LOOK_MOST_S, max(0.01, (count - seen.done) / rate / 2)))
        raise TimeoutError(f"{(await self.status()).done} of {count} messages acked after {within_s:g} s")

    async def drain_paused(self, count: int) -> float:
        """Lets `count` messages that wait for a paused pool through, up to the last ack; seconds. Paused again then."""
        before = (await self.status()).done
        began = time.perf_counter()
        await self.resume()
        await self.acked(before + count)
        took_s = time.perf_counter() - began
        await self.pause()
        return took_s

    async def depth(self) -> int:
        """Messages ready in the queue."""
        found = await self._depths.main()
        return -1 if found is None else found

    async def pids(self) -> Pids:
        """Of the pool as it is now."""
        router, store, autoscaler, *workers = await self.in_each_process(lambda _: os.getpid())
        return Pids(router=router, store=store, autoscaler=autoscaler, workers=tuple(workers))

    async def in_each_process(self, call: Callable[[Any], T]) -> list[T]:  # Any: the actor's own object
        """What `call` returns in the router, the store, the autoscaler and each worker, in this order."""
        stations = [one.actor for one in (self._service.router, self._service.store, self._service.autoscaler)]
        names = [worker.name for worker in (await self.report()).workers if worker.pid]
        workers = [ray.get_actor(name, self.loaded.settings.ray_namespace) for name in names]
        actors: list[Any] = [*stations, *workers]
        return list(await asyncio.gather(*(actor.__ray_call__.remote(call) for actor in actors)))

    async def stop(self) -> Drained:
        """Drains and ends the pool; how the router ended. May be called twice."""
        await self._depths.close()
        return await self._service.stop()

    def rows(self, sql: str) -> list[dict[str, Any]]:  # Any: SQL values
        """Reads the results file of a pool that was stopped."""
        return list(read_only_query(self.loaded.settings.results, sql).to_pylist())

    @property
    def _router(self) -> Any:  # Any: Ray's handles are untyped
        assert self._service.router.actor is not None
        return self._service.router.actor


def settings(
    url: str, folder: Path, own: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> Loaded:
    """Default settings and `own`, with a queue, a pool and a results file of its own; `environ`: e.g. OTEL_*."""
    name = f"b{uuid.uuid4().hex[:8]}"
    cli: dict[str, object] = {"queue": name, "pool": name, "results": folder / f"{name}.duckdb"}
    quiet = {"RABBITRAY_LOG_LEVEL": "WARNING"}
    return load(cli | dict(own or {}), {"RABBITMQ_URL": url} | quiet | dict(environ or {}), None)


def fixed(workers: int) -> dict[str, object]:
    """The settings of a pool that keeps its size."""
    return {"min_size": workers, "initial_size": workers, "max_size": workers}


@contextlib.contextmanager
def local_ray(workers: int) -> Iterator[Session]:
    """A Ray of our own on loopback, with a place for so many workers, and this process connected to it."""
    logging.getLogger("ray").setLevel(logging.WARNING)
    try:
        yield connect(load({"max_size": workers}, {}, None).settings, log_to_driver=False)
    finally:
        ray.shutdown()


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A place for results files."""
    with tempfile.TemporaryDirectory(prefix="rabbitray-bench-") as name:
        yield Path(name)


@contextlib.asynccontextmanager
async def pool_of(loaded: Loaded, session: Session, handler: str = NOOP) -> AsyncIterator[BenchPool]:
    """A running pool with `min_size` workers ready; stopped at the end."""
    service = Service(loaded, handler, session)
    await service.start()
    pool = BenchPool(loaded, service)
    try:
        await pool.ready(loaded.settings.initial_size)
        yield pool
    finally:
        await pool.stop()


def jobs(count: int, *, size: int = 0, payload: object = None) -> Iterator[Job]:
    """Small jobs as in the report (3.1), each with an id of its own; `size`: bytes of payload on top."""
    extra = bytes(size) if size else payload
    for _ in range(count):
        yield Job(user_id="user-123", message_type="BIRTHDAY", payload=extra)


async def publish(
    loaded: Loaded, many: Iterable[Job], *, packed: int = 0, tracing: Tracing | None = None, queue: str | None = None
) -> None:
    """Publishes through the queue writer, in parts, and insists on every confirm."""
    rest = iter(many)
    config = compose.publisher(loaded.settings, queue=queue)
    async with Publisher(config, tracer=tracing) as publisher:
        while part := list(itertools.islice(rest, PUBLISH_PART)):
            report = await publisher.publish_many(part, packed=packed)
            if not report.ok:
                raise RuntimeError(f"{len(report.failed)} messages were not confirmed: {report.failed[0].error}")


async def publish_encoded(loaded: Loaded, many: Iterable[EncodedMessage]) -> None:
    """Publishes small messages as they are, in parts; raises what the first one raises that is not confirmed."""
    rest = iter(many)
    async with Publisher(compose.publisher(loaded.settings)) as publisher:
        while part := list(itertools.islice(rest, ENCODED_PART)):
            await asyncio.gather(*map(publisher.submit_message, part))


class _Empty:
    """An actor that does nothing, of the kind that ours are: asynchronous."""

    async def pid(self) -> int:
        return os.getpid()


@contextlib.asynccontextmanager
async def empty_actors(count: int) -> AsyncIterator[tuple[int, ...]]:
    """Process ids of so many Ray actors that do nothing."""
    kind: Any = ray.remote(_Empty)  # Any: Ray's actor class is generic over ours
    actors = [kind.options(num_cpus=0.001).remote() for _ in range(count)]
    try:
        yield tuple(await asyncio.gather(*(actor.pid.remote() for actor in actors)))
    finally:
        for actor in actors:
            ray.kill(actor)
