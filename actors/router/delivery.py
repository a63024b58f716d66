"""Delivery: a message and how to settle it; Batch: deliveries on their way together; Buffer: those that wait. Pure.

A delivery never leaves the router's process. Here are also the failures that the router itself makes of a delivery.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from rabbitray.actors.message.message import Envelope
from rabbitray.actors.message.parcel import Parcel, Record, whole_message
from rabbitray.actors.message.reply import Failure

if TYPE_CHECKING:
    from rabbitray.actors.router.spool import SpooledBody

_numbers = itertools.count(1)

NOBODYS = 0
"""The generation of a delivery that RabbitMQ has taken back: channels count from 1."""

SKEWED_MS = 1_000
"""A producer whose clock is further ahead says nothing of how long its message took."""

MOST_MESSAGES = 500
"""In one batch, however few records they hold: its span links each, and keeps 1,000 links."""


class Delivery(msgspec.Struct, gc=False, eq=False, kw_only=True):
    """One delivered message. `tag` is valid on the channel of `generation` only."""

    parcel: Parcel
    properties: object  # AMQP basic properties with the header table, as the client library decoded them
    generation: int
    tag: int
    consumer: int  # number of the consumer that got it: window hand-overs count what the old ones hold
    size: int  # bytes of the body; of a compressed one as many as it says it holds: so much it is at a worker
    records: int  # jobs inside: 1 unless packed
    arrived_at: float  # monotonic seconds
    redelivered: bool
    refused: str | None = None  # why it must not be decoded: `reason: detail`
    stray: bool = False  # a copy that was meant for another queue
    near_limit: bool = False  # RabbitMQ has delivered it so often that a queue's delivery limit is near
    returned: bool = False  # came back from a rung: not an arrival
    due_ms: int = 0  # not to be run before, Unix ms
    replays: int = 0  # how often it was replayed from the dead letters
    spooled: SpooledBody | None = None  # where the body is, of one that is refused for its size
    route: bytes = b""  # exchange and routing key that it came with, see `read_route`
    ahead_ms: int = 0  # so far its producer's clock is ahead of ours, at least
    keys: list[str | None] | None = None  # of its records, as a worker read them in its body
    broken: int = 0  # how often its handler said that its worker is broken

    def with_envelope(self, copies_come_by: Collection[bytes] = ()) -> Parcel:
        """Its parcel for a worker that asks for messages. `copies_come_by`: the routes of our copies."""
        raw: bytes = getattr(self.properties, "raw", b"")
        copied = self.route in copies_come_by
        envelope = Envelope(raw=raw, route=self.route, redelivered=self.redelivered, copied=copied)
        return msgspec.structs.replace(self.parcel, envelope=envelope)

    def key_of(self, record: int) -> str | None:
        """The key of a record, as far as it is known: by headers and properties, else by what a worker told."""
        told = self.keys
        return self.parcel.key or (told[record] if told and record < len(told) else None)

    def whole(self) -> Record:
        """The record that stands for it as a whole, as far as it is known here."""
        whole = whole_message(self.parcel)
        if whole.key is None and self.keys is not None and len(self.keys) == 1:
            whole = msgspec.structs.replace(whole, key=self.keys[0])
        return whole

    def ran_before(self) -> None:
        """It goes out again: some of it may have its result by now."""
        if not self.parcel.again:
            self.parcel = msgspec.structs.replace(self.parcel, again=True)


@dataclass(slots=True, eq=False)
class Batch:
    """Deliveries on their way through a worker; a position is an index in `deliveries`."""

    deliveries: list[Delivery]
    id: str = field(default_factory=lambda: f"{next(_numbers):x}")
    pending: set[int] = field(init=False)  # positions that are still the worker's
    worker: str = ""  # whose it is
    stands: str = ""  # where its worker's handler stood when it last told
    probe: bool = False  # sent out during an outage hold, to find out whether it is over
    records: int = field(init=False)  # jobs in it

    def __post_init__(self) -> None:
        self.pending = set(range(len(self.deliveries)))
        self.records = sum(delivery.records for delivery in self.deliveries)

    def note_keys(self, keys: Mapping[int, list[str | None]]) -> None:
        """A worker has read the keys of these positions: whatever becomes of it, its messages have them."""
        for position, told in keys.items():
            self.deliveries[position].keys = told

    def take(self, positions: Iterable[int]) -> list[Delivery]:
        """The deliveries of these positions, which are the worker's no longer."""
        taken = [position for position in positions if position in self.pending]
        self.pending.difference_update(taken)
        return self.at(taken)

    def at(self, positions: Iterable[int]) -> list[Delivery]:
        """The deliveries of these positions."""
        return [self.deliveries[position] for position in positions]


class Buffer:
    """Deliveries in the order of arrival, with their bytes and records counted."""

    def __init__(self) -> None:
        self._waiting: deque[Delivery] = deque()
        self.size = 0
        self.records = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self._waiting)

    @property
    def oldest_at(self) -> float | None:
        """Arrival of the delivery at the front (monotonic s)."""
        return self._waiting[0].arrived_at if self._waiting else None

    def put(self, delivery: Delivery) -> None:
        """Adds at the end."""
        self._waiting.append(delivery)
        self._count(delivery, 1)

    def put_back(self, deliveries: Iterable[Delivery]) -> None:
        """Adds at the front, in the given order."""
        for delivery in reversed(list(deliveries)):
            self._waiting.appendleft(delivery)
            self._count(delivery, 1)

    def take(self, most_records: int, most_bytes: int) -> list[Delivery]:
        """The next deliveries that fit the bounds; at least one when there is one."""
        taken: list[Delivery] = []
        records = size = 0
        while self._waiting and len(taken) < MOST_MESSAGES:
            delivery = self._waiting[0]
            if taken and (records + delivery.records > most_records or size + delivery.size > most_bytes):
                break
            taken.append(self._waiting.popleft())
            records += delivery.records
            size += delivery.size
        self.records -= records
        self.size -= size
        return taken

    def take_behind(self, first: int) -> list[Delivery]:
        """Takes out all but the `first` ones."""
        behind = set(list(self._waiting)[first:])
        return self.remove(lambda delivery: delivery in behind)

    def remove(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Takes out all that the predicate names."""
        removed = [delivery for delivery in self._waiting if unwanted(delivery)]
        if removed:
            self._waiting = deque(delivery for delivery in self._waiting if not unwanted(delivery))
            for delivery in removed:
                self._count(delivery, -1)
        return removed

    def _count(self, delivery: Delivery, sign: int) -> None:
        self.size += sign * delivery.size
        self.records += sign * delivery.records


def rejection(record: Record, position: int, reason: str, *, unread: bool = False) -> Failure:
    """The failure of a job whose row the store cannot hold. `unread`: `record` is not from the body."""
    return Failure.permanent(record, "store_rejected", reason, "RejectedRow", position=position, unread=unread)


def refusal(delivery: Delivery) -> Failure:
    """The failure of a message that may not be decoded (`refused` is `reason: detail`)."""
    reason, _, detail = (delivery.refused or "refused: ").partition(": ")
    return message_failure(delivery, reason, detail, "RefusedMessage")


def message_failure(delivery: Delivery, reason: str, error: str, error_class: str, *, traceback: str = "") -> Failure:
    """A permanent failure of a whole message that nobody has read."""
    return Failure.permanent(delivery.whole(), reason, error, error_class, unread=True, traceback=traceback)
