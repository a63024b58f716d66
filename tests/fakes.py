"""Scriptable doubles of our own Protocols: a broker, its intake and outbox, workers and their factory, a recorder.

FakeBroker keeps RabbitMQ's rules that cost data when they are broken: an ack or nack of a tag that is unknown or
already acked closes the channel (406), and a channel that closes puts everything unacknowledged back.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
from aiormq.abc import DeliveredMessage
from pamqp import commands as spec

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.parcel import Parcel, Shipment, unpack_parcels
from rabbitray.actors.message.reply import Failure, Part, WorkerInfo
from rabbitray.actors.message.rows import RESULT_SCHEMA
from rabbitray.actors.publisher import EncodedMessage
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.dispatch.pool import WorkerLostError
from rabbitray.actors.router.intake.ack_ledger import AckLedger
from rabbitray.actors.router.intake.reading import BodyLimits, read_delivery
from rabbitray.actors.router.settlement.retries import Rung
from rabbitray.actors.store.answers import Answer
from tests.fake_store import FakeStore


def parcel(body: bytes = b"{}", **changes: Any) -> Parcel:
    """A parcel with plausible values."""
    plain: dict[str, Any] = {
        "content_type": h.JSON,
        "content_encoding": "",
        "message_id": "m-1",
        "key": None,
        "attempt": -1,
        "first_seen_ms": 0,
        "published_ms": 0,
        "received_ms": 1_700_000_000_000,
        "traceparent": None,
        "tracestate": None,
    }
    return Parcel(body=body, **(plain | changes))


def delivery(tag: int = 1, body: bytes = b"{}", **changes: Any) -> Delivery:
    """A delivery with plausible values; names of parcel fields go to its parcel."""
    inner = {name: changes.pop(name) for name in list(changes) if name in Parcel.__struct_fields__}
    inner.setdefault("message_id", f"m-{tag}")
    plain: dict[str, Any] = {
        "properties": spec.Basic.Properties(headers={}),
        "generation": 1,
        "tag": tag,
        "consumer": 1,
        "size": len(body),
        "records": 1,
        "arrived_at": 0.0,
        "redelivered": False,
    }
    return Delivery(parcel=parcel(body, **inner), **(plain | changes))


def received(
    body: bytes = b"{}",
    headers: Mapping[str, Any] | None = None,
    *,
    tag: int = 1,
    redelivered: bool = False,
    **own: Any,
) -> DeliveredMessage:
    """A message as aiormq hands it to a consumer; `own`: AMQP basic properties."""
    properties = spec.Basic.Properties(headers=dict(headers) if headers else None, **own)
    deliver = spec.Basic.Deliver(
        consumer_tag="c", delivery_tag=tag, redelivered=redelivered, exchange="", routing_key="q"
    )
    return cast(
        DeliveredMessage,
        SimpleNamespace(body=body, header=SimpleNamespace(properties=properties), delivery=deliver),
    )


@dataclass(slots=True, eq=False)
class Stored:
    """A message in a queue of the FakeBroker."""

    body: bytes
    headers: dict[str, Any]
    message_id: str | None = None
    content_type: str = h.JSON
    redelivered: bool = False
    copies_before: int = 0  # copies of this key that were accepted before it was delivered

    @property
    def key(self) -> str:
        """What it is called in headers or properties."""
        return str(self.headers.get(h.KEY, self.message_id))


@dataclass(slots=True, eq=False)
class FakeChannel:
    """One channel: its tags count from 1."""

    take: Callable[[Stored, int], None]
    closed: Callable[[], None]
    prefetch: int = 0
    consuming: bool = False
    alive: bool = True
    tag: int = 0
    unacked: dict[int, Stored] = field(default_factory=dict)
    held: int = 0  # of the current consumer: older ones are not counted against its prefetch


class FakeBroker:
    """Queues by name; the main queue is consumed by channels. `on_ack` sees each message that is acked."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.queues: dict[str, deque[Stored]] = {name: deque() for name in topology.queues()}
        self.channels: list[FakeChannel] = []
        self.on_ack: Callable[[Stored], None] = lambda _: None
        self.copies: Counter[str] = Counter()  # accepted through our own exchange, by key
        self.refused = 0  # channels closed with 406
        self.up = True

    @property
    def ready(self) -> int:
        """Messages ready in the main queue."""
        return len(self.queues[self.topology.queue])

    @property
    def unacked(self) -> int:
        """Messages that some channel holds."""
        return sum(len(channel.unacked) for channel in self.channels)

    def publish(self, body: bytes, headers: Mapping[str, Any] | None = None, **own: Any) -> None:
        """Puts a message into the main queue."""
        self._put(self.topology.queue, Stored(body=body, headers=dict(headers or {}), **own))

    def accept(self, message: EncodedMessage) -> None:
        """A publish through our own exchange."""
        stored = Stored(
            body=message.body,
            headers=dict(message.headers),
            message_id=message.message_id,
            content_type=message.content_type or "",
        )
        self.copies[stored.key] += 1
        self._put(message.routing_key, stored)

    def expire(self) -> int:
        """Every rung's time is over: its messages come back to the main queue. How many."""
        rungs = [self.queues[self.topology.rung(delay)] for delay in self.topology.rung_delays_ms]
        back = [message for rung in rungs for message in rung]
        for rung in rungs:
            rung.clear()
        for message in back:
            message.redelivered = False
            self._put(self.topology.queue, message)
        return len(back)

    def open(self, channel: FakeChannel) -> None:
        """A new channel."""
        if not self.up:
            raise ConnectionError("the fake broker is down")
        self.channels.append(channel)

    def consume(self, channel: FakeChannel, prefetch: int) -> None:
        """Registers a new consumer with this prefetch; what an older one holds is not counted against it."""
        channel.prefetch, channel.held, channel.consuming = prefetch, 0, True
        self._deliver()

    def ack(self, channel: FakeChannel, tag: int, *, multiple: bool) -> None:
        """Settles tags; an unknown one closes the channel."""
        if not channel.alive:
            return
        if tag not in channel.unacked:
            self.refused += 1
            self.close(channel)
            return
        for known in [t for t in channel.unacked if t == tag or (multiple and t < tag)]:
            self.on_ack(channel.unacked.pop(known))
            channel.held = max(0, channel.held - 1)
        self._deliver()

    def nack(self, channel: FakeChannel, tag: int) -> None:
        """Puts a message back; an unknown tag closes the channel."""
        if not channel.alive:
            return
        if tag not in channel.unacked:
            self.refused += 1
            self.close(channel)
            return
        message = channel.unacked.pop(tag)
        channel.held = max(0, channel.held - 1)
        message.redelivered = True
        self.queues[self.topology.queue].appendleft(message)
        self._deliver()

    def close(self, channel: FakeChannel) -> None:
        """Ends a channel: everything that it holds goes back to the front of the queue."""
        if not channel.alive:
            return
        channel.alive = channel.consuming = False
        self.channels.remove(channel)
        for message in reversed(channel.unacked.values()):
            message.redelivered = True
            self.queues[self.topology.queue].appendleft(message)
        channel.unacked.clear()
        channel.closed()
        self._deliver()

    def _put(self, queue: str, message: Stored) -> None:
        self.queues[queue].append(message)
        self._deliver()

    def _deliver(self) -> None:
        queue = self.queues[self.topology.queue]
        for channel in list(self.channels):
            while queue and channel.consuming and channel.held < channel.prefetch:
                channel.tag += 1
                channel.held += 1
                message = channel.unacked[channel.tag] = queue.popleft()
                message.copies_before = self.copies[message.key]
                channel.take(message, channel.tag)


class FakeIntake:
    """Intake over a FakeBroker, with the same surface and the real AckLedger. Reconnects at once when it can."""

    def __init__(
        self,
        broker: FakeBroker,
        *,
        on_delivery: Callable[[Delivery], None],
        on_lost: Callable[[int], None],
        single_after_s: float = 0.2,
        limits: BodyLimits | None = None,
    ) -> None:
        self._broker = broker
        self._on_delivery = on_delivery
        self._on_lost = on_lost
        self._single_after_s = single_after_s
        self._limits = limits or BodyLimits()
        self._consumers = itertools.count(1)
        self._consumer: int | None = None
        self._wanted: int | None = None
        self._closed = False
        self._flusher: asyncio.TimerHandle | None = None
        self.generation = 0
        self.connected = False
        self.reconnects = 0
        self.stale = 0

    async def open(self) -> list[str]:
        self._open_channel()
        return []

    async def close(self) -> None:
        self._closed = True
        if self._flusher is not None:
            self._flusher.cancel()
        if self.connected:
            self._send(float("inf"))
            self._broker.close(self._channel)

    async def consume(self, window: int) -> None:
        if window < 1:
            raise ValueError(f"window {window} is not allowed")
        self._wanted = window
        if self.connected:
            self._consumer = next(self._consumers)
            self._broker.consume(self._channel, window)

    async def pause(self) -> None:
        self._wanted = None
        self._consumer = None
        if self.connected:
            self._channel.consuming = False

    def finish(self, deliveries: Iterable[Delivery]) -> None:
        self._ledger.finish(self._current(deliveries), asyncio.get_running_loop().time())
        self._flush()

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        for tag in self._ledger.give_back(self._current(deliveries)):
            self._broker.nack(self._channel, tag)
        self._flush()

    def still_ours(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        return [one for one in deliveries if one.generation == self.generation and self.connected]

    @property
    def unacked(self) -> int:
        return self._ledger.unacked

    @property
    def consuming(self) -> bool:
        return self._consumer is not None

    def lose(self) -> None:
        """The connection breaks."""
        self._broker.close(self._channel)

    def reconnect(self) -> None:
        """What the watcher of the real one does by itself."""
        if self.connected or self._closed or not self._broker.up:
            return
        self._open_channel()
        self.reconnects += 1
        if self._wanted is not None:
            self._consumer = next(self._consumers)
            self._broker.consume(self._channel, self._wanted)

    def _open_channel(self) -> None:
        self.generation += 1
        self._ledger = AckLedger(single_after_s=self._single_after_s)
        generation = self.generation
        self._channel = FakeChannel(take=self._take, closed=lambda: self._on_closed(generation))
        self._broker.open(self._channel)
        self.connected = True

    def _on_closed(self, generation: int) -> None:
        self.connected = False
        self._consumer = None
        if not self._closed:
            self._on_lost(generation)
            asyncio.get_running_loop().call_soon(self.reconnect)

    def _take(self, message: Stored, tag: int) -> None:
        self._ledger.delivered(tag)
        got = received(
            message.body,
            message.headers,
            tag=tag,
            redelivered=message.redelivered,
            message_id=message.message_id,
            content_type=message.content_type or None,
        )
        self._on_delivery(
            read_delivery(got, generation=self.generation, consumer=self._consumer or 0, limits=self._limits)
        )

    def _current(self, deliveries: Iterable[Delivery]) -> list[int]:
        found = list(deliveries)
        ours = self.still_ours(found)
        self.stale += len(found) - len(ours)
        return [one.tag for one in ours]

    def _flush(self) -> None:
        now = asyncio.get_running_loop().time()
        self._send(now)
        due = self._ledger.next_due()
        if due is not None and self._flusher is None:
            self._flusher = asyncio.get_running_loop().call_later(max(0.0, due - now) + 0.01, self._flush_later)

    def _flush_later(self) -> None:
        self._flusher = None
        if self.connected:
            self._flush()

    def _send(self, now: float) -> None:
        for ack in self._ledger.due(now):
            self._broker.ack(self._channel, ack.tag, multiple=ack.multiple)


class FakeSender:
    """The publisher of copies: into the FakeBroker. `failures`: raised by the next publishes, one each.

    `ambiguous`: the copy arrives although the publish fails.
    """

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self.failures: deque[Exception] = deque()
        self.ambiguous = False

    async def publish_message(self, message: EncodedMessage) -> None:
        await asyncio.sleep(0)
        if self.failures:
            if self.ambiguous:
                self._broker.accept(message)
            raise self.failures.popleft()
        self._broker.accept(message)


class FakeOutbox:
    """Copies that left, and a shared `log` of what happened in which order. `failures`: of the next calls, in order."""

    def __init__(self, log: list[str] | None = None) -> None:
        self.log = log if log is not None else []
        self.retried: list[tuple[Delivery, Failure, Rung]] = []
        self.parked: list[tuple[Delivery, Failure, str]] = []
        self.singled: list[tuple[Delivery, Failure]] = []
        self.failures: deque[Exception | None] = deque()

    async def retry(self, delivery: Delivery, failure: Failure, rung: Rung) -> None:
        await self._confirm(f"retry {delivery.tag}")
        self.retried.append((delivery, failure, rung))

    async def park(self, delivery: Delivery, failure: Failure, reason: str) -> None:
        await self._confirm(f"park {delivery.tag}")
        self.parked.append((delivery, failure, reason))

    async def again(self, delivery: Delivery, piece: Failure) -> None:
        await self._confirm(f"again {delivery.tag}.{piece.record}")
        self.singled.append((delivery, piece))

    async def _confirm(self, what: str) -> None:
        failure = self.failures.popleft() if self.failures else None
        await asyncio.sleep(0)
        self.log.append(f"{what} failed" if failure else f"{what} confirmed")
        if failure:
            raise failure


class FakeAcks:
    """Acks and give-backs by tag."""

    def __init__(self, log: list[str] | None = None) -> None:
        self.log = log if log is not None else []
        self.acked: list[int] = []
        self.returned: list[int] = []

    def finish(self, deliveries: Iterable[Delivery]) -> None:
        for one in deliveries:
            self.acked.append(one.tag)
            self.log.append(f"ack {one.tag}")

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        for one in deliveries:
            self.returned.append(one.tag)
            self.log.append(f"give back {one.tag}")


Reply = tuple[Part, pa.Table]


class FakeWorker:
    """One worker: calls wait until the test answers them. `starts` settles `ready`."""

    def __init__(self, name: str, *, slots: int = 1) -> None:
        self.name = name
        self.slots = slots
        self.starts: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.batches: dict[str, list[Parcel]] = {}  # in hand, in the order of arrival
        self.told: dict[str, set[int]] = {}  # positions that a test has answered for, by batch
        self.killed = False
        self.stopped = False
        self.lost: tuple[str, bool] | None = None  # it is dead: reason and guilt that every call meets
        self.hangs_on_stop = False
        self._replies: dict[str, asyncio.Queue[Reply | WorkerLostError | Exception]] = {}

    async def ready(self) -> WorkerInfo:
        await asyncio.shield(self.starts)
        return WorkerInfo(slots=self.slots, pid=4711, node="node")

    async def run(self, batch_id: str, shipment: Shipment) -> Reply:
        if self.lost is not None:
            raise WorkerLostError(self.lost[0], "it is dead", may_be_poison=self.lost[1])
        self.batches[batch_id] = unpack_parcels(shipment)
        self._replies[batch_id] = asyncio.Queue()
        return await self.more(batch_id)

    async def more(self, batch_id: str) -> Reply:
        reply = await self._replies[batch_id].get()
        if isinstance(reply, Exception):
            raise reply
        if not reply[0].open:
            self.batches.pop(batch_id, None)
        return reply

    async def stop(self) -> None:
        self.stopped = True
        if self.hangs_on_stop:
            await asyncio.Event().wait()
        self.die("stopped")

    def kill(self) -> None:
        self.killed = True
        self.die("killed", may_be_poison=True)  # as Ray: a kill looks like a crash to the calls in flight

    def started(self) -> None:
        """The handler is loaded."""
        if not self.starts.done():
            self.starts.set_result(None)

    def fails_to_start(self, why: str = "boom") -> None:
        """The handler cannot be loaded."""
        if not self.starts.done():
            self.starts.set_exception(WorkerLostError("start_failed", why, may_be_poison=False))

    def answer(self, batch_id: str, part: Part, rows: pa.Table | None = None) -> None:
        """The next part of a batch."""
        self._replies[batch_id].put_nowait((part, rows if rows is not None else RESULT_SCHEMA.empty_table()))

    def done(self, batch_id: str, queue: str = "q") -> None:
        """All messages of a batch end DONE."""
        parcels = self.batches[batch_id]
        positions = list(range(len(parcels)))
        part = Part(rows=len(parcels), row_positions=positions, finished=positions, jobs=len(parcels))
        self.answer(batch_id, part, rows_of([key_of(one) for one in parcels], queue))

    def raises(self, batch_id: str, error: Exception) -> None:
        """The next call for this batch raises."""
        self._replies[batch_id].put_nowait(error)

    def die(self, reason: str = "worker_crashed", *, may_be_poison: bool = True) -> None:
        """Every call in flight ends with the loss of the worker, and every later one."""
        self.lost = self.lost or (reason, may_be_poison)
        if not self.starts.done():
            self.starts.set_exception(WorkerLostError(reason, "it died", may_be_poison=False))
            self.starts.exception()  # read, so that a withdrawn worker's is not reported as unread
        for replies in self._replies.values():
            replies.put_nowait(WorkerLostError(reason, "it died", may_be_poison=may_be_poison))


class FakeFactory:
    """Workers in the order in which they were asked for. `auto`: they start at once; `error`: spawn raises it."""

    def __init__(self, *, auto: bool = True, slots: int = 1) -> None:
        self.auto = auto
        self.slots = slots
        self.error: Exception | None = None
        self.workers: list[FakeWorker] = []

    def spawn(self, name: str) -> FakeWorker:
        if self.error is not None:
            raise self.error
        worker = FakeWorker(name, slots=self.slots)
        self.workers.append(worker)
        if self.auto:
            worker.started()
        return worker


class FakeRecorder:
    """A FakeStore as the router's recorder. `lost`: batches of rows that cannot be fetched, counted down."""

    def __init__(self, store: FakeStore, queue: str = "q") -> None:
        self.store = store
        self.queue = queue
        self.epoch = 1

    async def write(self, payload: pa.Table, failed_keys: tuple[str, ...], span: str | None) -> Answer:
        return await self.store.write(self.epoch, payload, failed_keys, queue=self.queue)

    async def record_dead_letters(self, rows: pa.Table) -> None:
        await self.store.record_dead_letters(self.epoch, rows)


def rows_of(keys: Iterable[str | None], queue: str = "q") -> pa.Table:
    """Result rows of these keys."""
    rows = [{"key": key, "queue": queue, "status": "DONE"} for key in keys]
    return pa.Table.from_pylist(rows, schema=RESULT_SCHEMA)


def key_of(one: Parcel) -> str | None:
    """The key as the worker finds it for bodies without an id of their own."""
    return one.key or one.message_id
