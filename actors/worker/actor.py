"""PoolWorker: the Worker as a Ray actor."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import psutil
import pyarrow as pa
import ray

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.errors import RabbitrayError, text_of
from rabbitray.actors.message.finished_keys import decode_winners, encode_question
from rabbitray.actors.message.parcel import Shipment
from rabbitray.actors.message.reply import Part, WorkerInfo
from rabbitray.actors.message.rows import Stream, to_stream
from rabbitray.actors.remote.boot import (
    Boot,
    Flush,
    drop_teardown_messages,
    freeze_gc,
    keep_freed_memory,
    ray_attributes,
)
from rabbitray.actors.remote.calls import NamedActor
from rabbitray.actors.remote.placement.kind import WorkerKind
from rabbitray.actors.secret import Redactor
from rabbitray.actors.telemetry.metrics import NO_METRICS
from rabbitray.actors.telemetry.ray_metrics import Metering
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.actors.worker.batch.skip_done import FinishedJobs, SkipDone
from rabbitray.actors.worker.handler.decoder import LoadedDecoder, load_decoder
from rabbitray.actors.worker.handler.loading import Handler, load
from rabbitray.actors.worker.meter import WorkerMeter
from rabbitray.actors.worker.outcome.verdict import Categories
from rabbitray.actors.worker.usage import ProcessUsage
from rabbitray.actors.worker.worker import Worker, WorkerConfig

log = logging.getLogger(__name__)

T = TypeVar("T")

SIGNS: Final = "signs"
"""The concurrency group, with an event loop of its own, that answers while a handler blocks the other one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """Everything that a worker process needs. `config.name` is filled in for each worker.

    `kinds`: the kinds of workers of the pool, one for now. `store`: the name of the store's actor, in `namespace`,
    which knows the jobs that `skip_done` is about.
    """

    config: WorkerConfig
    handler: str
    boot: Boot
    decoder: str = "auto"
    categories: Mapping[str, str] = field(default_factory=dict)
    kinds: tuple[WorkerKind, ...] = (WorkerKind(),)
    server: tuple[str, int] | None = None
    metering: Metering = field(default_factory=Metering)
    skip_done: SkipDone = "off"
    store: str = ""
    namespace: str = ""


class PoolWorker:
    """A processing actor. An exception of the handler's set-up fails the actor's start and is shown."""

    def __init__(self, setup: WorkerSetup) -> None:
        drop_teardown_messages()
        keep_freed_memory()
        self._name = setup.config.name
        self._flush: Flush = setup.boot("worker", ray_attributes("PoolWorker", self._name))
        tracing = Tracing(queue=setup.config.queue, server=setup.server)
        self._metrics = setup.metering.recorder(self._name)
        meter = None if self._metrics is NO_METRICS else WorkerMeter(self._metrics)
        self._ended = asyncio.Event()
        self._usage = ProcessUsage(psutil.Process(), meter)
        self._tasks = BackgroundTasks(log, "A worker could not measure its process")
        redact = setup.config.redact
        handler: Handler = _load("handler", setup.handler, load, redact)
        decoder: LoadedDecoder | None = _load("decoder", setup.decoder, load_decoder, redact)
        own: Mapping[str, str] = getattr(handler.call, "error_categories", {})
        categories = Categories(dict(setup.categories) | dict(own))
        finished = _finished(setup, meter)
        self._worker = Worker(setup.config, handler, categories, tracing, meter, finished, decoder)
        freeze_gc()

    async def ready(self) -> WorkerInfo:
        """Answers once the handler is loaded."""
        node = ray.get_runtime_context().get_node_id()
        self._worker.loop_thread = threading.get_ident()
        usage = self._usage.begin()
        if not self._tasks.running:
            self._tasks.keep(lambda: self._usage.run(self._ended), name="worker-usage")
            self._tasks.keep(lambda: self._metrics.run(self._ended), name="worker-metrics")
        worker = self._worker
        return WorkerInfo(
            slots=worker.slots,
            pid=os.getpid(),
            node=node,
            host=socket.gethostname(),
            address=ray.util.get_node_ip_address(),
            usage=usage,
            up_s=max(0.0, time.time() - psutil.Process().create_time()),
            asks_message=worker.asks_message,
        )

    async def wall_clock(self) -> float:
        """Unix seconds, as this machine has them."""
        return time.time()

    async def correct_clock(self, ahead_s: float) -> None:
        """The clock of this machine is so far ahead of the router's: times are told by that one from now on."""
        self._worker.clock_us = round(ahead_s * 1_000_000)

    @ray.method(num_returns=2, enable_task_events=False)
    async def run(self, batch_id: str, shipment: Shipment) -> tuple[bytes, Stream]:
        """See `Worker.run`: the part for the router, the rows by reference for the store."""
        return self._answer(*await self._worker.run(batch_id, shipment))

    @ray.method(num_returns=2, enable_task_events=False)
    async def more(self, batch_id: str) -> tuple[bytes, Stream]:
        """See `Worker.more`."""
        return self._answer(*await self._worker.more(batch_id))

    def _answer(self, part: Part, rows: pa.Table) -> tuple[bytes, Stream]:
        stream = to_stream(rows)
        return self._usage.encoded(part, stream), stream

    @ray.method(concurrency_group=SIGNS, enable_task_events=False)
    async def stands(self) -> str:
        """Where the user's code stands in the event loop of the batches, "" where it does not; answered by another one,
        so whoever gets an answer knows that the process lives.
        """
        return self._worker.stands()

    @ray.method(enable_task_events=False)
    async def ended(self) -> None:
        """Lasts until `stop`: whoever waits for it hears from Ray of every other end."""
        await self._ended.wait()

    async def stop(self) -> None:
        """Ends the handler and sends what traces are left. What its end raises is told in the log, which hides secrets:
        Ray would show it as it is.
        """
        try:
            await self._worker.close()
        except (Exception, SystemExit, KeyboardInterrupt):
            log.exception("The handler could not be closed")
        self._ended.set()
        self._metrics.flush()
        await asyncio.get_running_loop().run_in_executor(None, self._flush, 5.0)

    def __repr__(self) -> str:
        return f"PoolWorker({self._name})"


class _StoreKeys:
    """KnownKeys: the store's actor, asked for the keys of one queue."""

    def __init__(self, queue: str, store: NamedActor) -> None:
        self._queue = queue
        self._store = store

    async def known(self, keys: Sequence[str]) -> Mapping[int, int]:
        """Raises as NamedActor.call, and UnicodeEncodeError."""
        question = encode_question(self._queue, keys)
        answer: bytes = await self._store.call("known", question, size=len(question))
        return decode_winners(answer)


def _finished(setup: WorkerSetup, meter: WorkerMeter | None) -> FinishedJobs | None:
    if setup.skip_done == "off":
        return None
    store = _StoreKeys(setup.config.queue, NamedActor(setup.store, setup.namespace, keep=True))
    return FinishedJobs(store, setup.skip_done, unasked=None if meter is None else meter.unasked)


def _load(what: str, name: str, loads: Callable[[str, Redactor], T], redact: Redactor) -> T:
    """As `loads`, of a handler or decoder. What Ray shows of an actor that could not start, the traceback and its
    causes too, must not hold a secret: it is then in the log alone, which hides it.
    """
    try:
        return loads(name, redact)
    except Exception as error:
        shown = "".join(traceback.format_exception(error))
        if redact(shown) == shown:
            raise
        log.exception("The %s %s could not be set up", what, name)
        raise RabbitrayError(redact(f"{type(error).__name__}: {text_of(error)}")) from None
