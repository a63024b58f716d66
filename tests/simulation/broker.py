"""SimBroker: RabbitMQ's queues on the virtual clock: rungs with a TTL, delivery limit, redelivery, unroutable copies.

What is given back comes first again, in its old order (`order="head"`, as classic queues and those of RabbitMQ 4 do
it), or last (`"tail"`, as quorum queues of 3.10.8 do).
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from rabbitray.actors.message.headers import Headers
from rabbitray.actors.rabbitmq.topology import Topology
from tests.simulation.checker import Checker
from tests.simulation.script import Order


@dataclass(slots=True, eq=False)
class Message:
    """One message in the broker: a copy is another one. `serials`: the jobs in it."""

    body: bytes
    headers: Headers
    message_id: str
    content_type: str
    serials: tuple[str, ...]
    number: int = 0  # its place in the queue
    returns: int = 0  # how often it was given back, by whomever
    answered: set[str] = field(default_factory=set)  # jobs whose copy was taken since it was delivered last


class Receiver(Protocol):
    """The side of a channel that hears the broker."""

    def deliver(self, consumer: str, tag: int, message: Message) -> None: ...
    def broken(self, why: str) -> None: ...


@dataclass(slots=True, eq=False)
class Consumer:
    """A consumer of a channel, with its own prefetch."""

    tag: str
    channel: Channel
    queue: str
    prefetch: int
    held: int = 0


@dataclass(slots=True, eq=False)
class Channel:
    """The broker's side of a channel."""

    receiver: Receiver
    router: int  # of which router process
    open: bool = True
    last_tag: int = 0
    unacked: dict[int, tuple[Message, Consumer]] = field(default_factory=dict)


class SimBroker:
    """Queues by name. `missing`: names of those that somebody has deleted."""

    def __init__(self, topology: Topology, checker: Checker, *, order: Order, limit: int) -> None:
        self.topology = topology
        self.checker = checker
        self._order, self._limit = order, limit
        self.queues: dict[str, deque[Message]] = {name: deque() for name in topology.queues()}
        self.missing: set[str] = set()
        self.channels: list[Channel] = []
        self._consumers: dict[str, list[Consumer]] = {name: [] for name in topology.queues()}
        self._numbers = itertools.count(1)
        self._rungs = {topology.rung(delay): delay / 1000 for delay in topology.rung_delays_ms}

    @property
    def waiting(self) -> int:
        """Messages that are still to be worked: ready, held, or in a rung."""
        names = (self.topology.queue, self.topology.dropped_queue, *self._rungs)
        return sum(len(self.queues[name]) for name in names) + sum(len(one.unacked) for one in self.channels)

    def publish(self, queue: str, message: Message) -> bool:
        """Takes a message; False where there is no such queue."""
        if queue in self.missing:
            return False
        message.number = next(self._numbers)
        self.queues[queue].append(message)
        self.checker.entered(queue, message)
        if (delay_s := self._rungs.get(queue)) is not None:
            asyncio.get_running_loop().call_later(delay_s, self._expire, queue, message)
        self._pump(queue)
        return True

    def delete(self, queue: str) -> None:
        """Somebody deletes an empty rung; one with messages stays."""
        if not self.queues[queue]:
            self.missing.add(queue)

    def _expire(self, rung: str, message: Message) -> None:
        self.queues[rung].remove(message)
        message.number = next(self._numbers)
        self.queues[self.topology.queue].append(message)
        self._pump(self.topology.queue)

    # -- one channel

    def open(self, receiver: Receiver, router: int) -> Channel:
        """A new channel."""
        channel = Channel(receiver, router)
        self.channels.append(channel)
        return channel

    def consume(self, channel: Channel, tag: str, queue: str, prefetch: int) -> None:
        """Registers a consumer; deliveries begin at once."""
        if channel.open:
            self._consumers[queue].append(Consumer(tag, channel, queue, prefetch))
            self._pump(queue)

    def cancel(self, channel: Channel, tag: str) -> None:
        """Ends a consumer; what it holds stays unacknowledged."""
        for consumers in self._consumers.values():
            consumers[:] = [one for one in consumers if one.channel is not channel or one.tag != tag]

    def ack(self, channel: Channel, tag: int, *, multiple: bool) -> None:
        """Settles tags; an unknown one closes the channel (406)."""
        for known in self._known(channel, tag, multiple):
            message, consumer = channel.unacked.pop(known)
            consumer.held -= 1
            self.checker.acked(message, channel)
        self._pump_all()

    def nack(self, channel: Channel, tag: int) -> None:
        """Gives a message back; an unknown tag closes the channel (406)."""
        for known in self._known(channel, tag, multiple=False):
            message, consumer = channel.unacked.pop(known)
            consumer.held -= 1
            self.checker.returned(message, channel)
            self._requeue(message, consumer.queue)
        self._pump_all()

    def _known(self, channel: Channel, tag: int, multiple: bool) -> list[int]:
        if not channel.open:
            return []
        if tag not in channel.unacked:
            self.checker.violation("refused", f"406: tag {tag} is unknown or already settled")
            self.close(channel)
            channel.receiver.broken("406 PRECONDITION_FAILED")
            return []
        return [one for one in channel.unacked if one == tag or (multiple and one < tag)]

    def close(self, channel: Channel) -> None:
        """Ends a channel: everything that it holds goes back."""
        if not channel.open:
            return
        channel.open = False
        self.channels.remove(channel)
        for consumers in self._consumers.values():
            consumers[:] = [one for one in consumers if one.channel is not channel]
        held, channel.unacked = list(channel.unacked.values()), {}
        for message, consumer in held:
            self.checker.returned(message, channel)
            self._requeue(message, consumer.queue)
        self._pump_all()

    def _requeue(self, message: Message, queue: str) -> None:
        message.returns += 1
        if self._limit and message.returns > self._limit and queue == self.topology.queue:
            death: Any = [{"reason": "delivery_limit", "queue": queue, "count": 1}]
            message.headers = {**message.headers, "x-death": death}
            message.returns, queue = 0, self.topology.dropped_queue
        ready = self.queues[queue]
        if self._order == "tail":
            message.number = next(self._numbers)
        if not ready or ready[-1].number < message.number:
            ready.append(message)
        else:
            place = next(n for n, other in enumerate(ready) if other.number > message.number)
            ready.insert(place, message)

    def _pump_all(self) -> None:
        self._pump(self.topology.queue)
        self._pump(self.topology.dropped_queue)

    def _pump(self, queue: str) -> None:
        """Round robin over the consumers that have room."""
        ready, consumers = self.queues[queue], self._consumers.get(queue) or []
        while ready and (consumer := next((one for one in consumers if one.held < one.prefetch), None)) is not None:
            consumers.append(consumers.pop(consumers.index(consumer)))
            message, channel = ready.popleft(), consumer.channel
            channel.last_tag += 1
            consumer.held += 1
            self.checker.delivered(message, channel)
            channel.unacked[channel.last_tag] = (message, consumer)
            channel.receiver.deliver(consumer.tag, channel.last_tag, message)
