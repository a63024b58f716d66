"""FakeBroker: queues and channels in memory that keep RabbitMQ's rules.

The rules that cost data when they are broken: an ack or nack of a tag that is unknown or already acked closes the
channel (406), and a channel that closes puts everything unacknowledged back.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rabbitray.actors.message import headers as h
from rabbitray.actors.publisher import EncodedMessage
from rabbitray.actors.rabbitmq.topology import Topology
from tests.kit.dead_letters import headers_sent, properties_sent


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
            headers=headers_sent(message),
            message_id=message.message_id,
            content_type=properties_sent(message).content_type or "",
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
