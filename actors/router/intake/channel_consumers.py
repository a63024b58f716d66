"""ChannelConsumers: who consumes on one channel, with how wide a window, and what each of them still holds."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.common import FieldValue

from rabbitray.actors.message.headers import DEATHS, delivery_count
from rabbitray.actors.message.properties.route import read_route
from rabbitray.actors.rabbitmq.strays import Strays
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.reading import read_message
from rabbitray.actors.router.intake.scanner import Scanned, Take

NEAR_LIMIT = 10
"""Deliveries that are half of RabbitMQ's default limit."""

log = logging.getLogger(__name__)

OnDelivery = Callable[[Delivery], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """One consumer of a channel; numbers count from 1 on each channel."""

    number: int
    tag: str


class ChannelConsumers:
    """The consumers of one channel: at most one is registered, but messages of older ones may still be unsettled.

    `generation` is written into each delivery; `delivered` notes the tag of each; `arguments`: of basic.consume.
    `takers` (by consumer tag) is what a delivery is looked up in.
    """

    def __init__(
        self,
        channel: AbstractChannel,
        config: IntakeConfig,
        *,
        generation: int,
        delivered: Callable[[int], None],
        arguments: Mapping[str, int] | None = None,
    ) -> None:
        self.takers: dict[str, Take] = {}
        self._channel = channel
        self._config = config
        self._generation = generation
        self._delivered = delivered
        self._arguments: dict[str, FieldValue] = {**(arguments or {})}
        self.cancelled: list[str] = []  # tags of consumers that the broker has cancelled, and we have not let go of
        self._numbers = itertools.count(1)
        self._current: Consumer | None = None
        self.held_by: Counter[int] = Counter()
        self._stopped = False

    @property
    def consuming(self) -> bool:
        """Whether a consumer is registered now."""
        return self._current is not None

    @property
    def held_by_old(self) -> int:
        """Messages that older consumers than the current one still hold."""
        current = self._current.number if self._current else None
        return sum(count for number, count in self.held_by.items() if number != current)

    async def hand_over(self, window: int, on_delivery: OnDelivery) -> None:
        """Registers a new consumer with prefetch `window` and cancels the one before.

        `on_delivery` runs inside the channel's reader.
        """
        await self._channel.basic_qos(prefetch_count=window)
        if self._stopped:
            return
        old, number = self._current, next(self._numbers)
        new = Consumer(number=number, tag=f"{self._config.name}-{self._generation}-{number}")
        self.takers[new.tag] = self._taker(number, on_delivery)
        await self._channel.basic_consume(
            self._config.source, _not_scanned, consumer_tag=new.tag, arguments=self._arguments
        )
        if self._stopped:
            return
        self._current = new
        if old is not None:
            await self._channel.basic_cancel(old.tag)
            self.takers.pop(old.tag, None)

    async def cancel(self) -> None:
        """Cancels the current consumer, if there is one; what it was sent stays and can be settled."""
        old, self._current = self._current, None
        if old is not None:
            await self._channel.basic_cancel(old.tag)
            self.takers.pop(old.tag, None)

    def forget(self, tag: str | None) -> None:
        """Notes that the broker has cancelled this consumer; see `let_go`."""
        if self._current is not None and self._current.tag == tag:
            self._current = None
        if tag is not None:
            self.cancelled.append(tag)

    async def let_go(self) -> None:
        """Cancels what the broker has cancelled: before 4.3.7 it delivers to such a consumer again once what was late
        is settled, and until then it is the active one of a queue that has but one.
        """
        while self.cancelled:
            await self._channel.basic_cancel(tag := self.cancelled.pop())
            self.takers.pop(tag, None)

    def stop(self) -> None:
        """Takes no delivery any more, whatever still stands in the connection's bytes."""
        self._stopped = True
        self._current = None
        self.takers.clear()

    def take_scanned(self, found: Scanned) -> bool:
        """Takes a delivery that the scanner found; False when its consumer is not known."""
        take = self.takers.get(found.consumer_tag)
        if take is None:
            return False
        take(found)
        return True

    def _taker(self, consumer: int, on_delivery: OnDelivery) -> Take:
        """What a consumer does with a message: reads its properties and buffers; nothing else may happen here."""
        generation, limits, rule = self._generation, self._config.limits, self._config.key
        strays = Strays(self._config.topology.exchange, self._config.source)
        own = strays.way
        delivered, held_by = self._delivered, self.held_by

        def take(found: Scanned) -> None:
            delivery = read_message(
                found.properties,
                found.body,
                tag=found.delivery_tag,
                redelivered=found.redelivered,
                generation=generation,
                consumer=consumer,
                limits=limits,
                spooled=found.spooled,
                rule=rule,
            )
            delivery.route = found.route
            headers = found.properties.headers
            if found.redelivered and headers and delivery_count(headers) >= NEAR_LIMIT:
                delivery.near_limit = True
            if found.route.startswith(own) or (headers and DEATHS in headers):
                delivery.stray = strays.holds(*read_route(found.route), headers)
            delivered(found.delivery_tag)
            held_by[consumer] += 1
            on_delivery(delivery)

        return take


async def _not_scanned(message: DeliveredMessage) -> None:
    """What aiormq is told to call, which never has a delivery: the scanner takes them all."""
    log.error("Delivery %s was not scanned", message.delivery_tag)
