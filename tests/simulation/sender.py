"""SimSender: the publisher of copies of one router process, with RabbitMQ's confirms and returns.

A `basic.return` names its message by nothing but its properties: as the real publisher does it, the first one in
flight with that message id is taken.
"""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import dataclass

from rabbitray.actors.errors import PublishTimeoutError, RefusedError, UncertainError, UnroutableError
from rabbitray.actors.message.parcel import Record
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.publisher import EncodedMessage
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.settlement.copies import CopyOutbox
from rabbitray.actors.router.settlement.retries import Rung
from tests.simulation.broker import Message, SimBroker
from tests.simulation.channel import SimChannel, SimOpener
from tests.simulation.checker import Origin
from tests.simulation.faults import Faults
from tests.simulation.messages import Wishes

ORIGIN: contextvars.ContextVar[DeliveryOrigin] = contextvars.ContextVar("origin")
CONFIRM_S = 0.002
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class DeliveryOrigin:
    """Of which delivery a copy is made."""

    channel: SimChannel
    tag: int

    @property
    def closed_at(self) -> float | None:
        return self.channel.closed_at

    @property
    def held(self) -> Message | None:
        return self.channel.held(self.tag)


@dataclass(slots=True, eq=False)
class InFlight:
    """One publish that the broker has not answered."""

    message_id: str
    returned: bool = False


class TracedOutbox:
    """The real outbox; beside it travels of which delivery a copy is. `opener`: whose deliveries they are."""

    def __init__(self, outbox: CopyOutbox, opener: SimOpener) -> None:
        self._outbox, self._opener = outbox, opener

    async def retry(self, delivery: Delivery, record: Record, rung: Rung) -> None:
        ORIGIN.set(self._origin(delivery))
        await self._outbox.retry(delivery, record, rung)

    async def park(self, delivery: Delivery, failure: Failure, reason: str) -> None:
        ORIGIN.set(self._origin(delivery))
        await self._outbox.park(delivery, failure, reason)

    async def again(self, delivery: Delivery, record: Record) -> None:
        ORIGIN.set(self._origin(delivery))
        await self._outbox.again(delivery, record)

    def _origin(self, delivery: Delivery) -> DeliveryOrigin:
        return DeliveryOrigin(self._opener.channels[delivery.generation - 1], delivery.tag)


class SimSender:
    """`alive`: whether the process is that it belongs to."""

    def __init__(self, broker: SimBroker, faults: Faults, wishes: Wishes) -> None:
        self._broker, self._faults, self._wishes = broker, faults, wishes
        self._in_flight: list[InFlight] = []
        self.alive = True

    async def publish_message(self, message: EncodedMessage) -> None:
        """As `Publisher.publish_message`."""
        serials = self._wishes.serials(message.body)
        origin = ORIGIN.get()
        self._broker.checker.copying(serials, origin)
        fault = self._faults.take("publish")
        kind, value = (fault.kind, fault.value) if fault else ("", 0.0)
        match kind:
            case "nacked":
                await asyncio.sleep(CONFIRM_S)
                raise RefusedError("nacked")
            case "lost":
                await asyncio.sleep(TIMEOUT_S)
                raise PublishTimeoutError("no confirm")
            case "late":
                asyncio.get_running_loop().call_later(TIMEOUT_S + value, self._take, message, origin, False)
                await asyncio.sleep(TIMEOUT_S)
                raise PublishTimeoutError("no confirm")
            case "uncertain":
                self._take(message, origin, False)
                await asyncio.sleep(CONFIRM_S)
                raise UncertainError("the connection was lost")
            case "twice":
                self._take(message, origin, False)
            case "slow":
                await asyncio.sleep(min(value, TIMEOUT_S / 2))
        await self._answered(message, origin)

    async def _answered(self, message: EncodedMessage, origin: Origin) -> None:
        entry = InFlight(message.message_id)
        self._in_flight.append(entry)
        try:
            await asyncio.sleep(CONFIRM_S / 2)
            if not self._take(message, origin, True):
                self._mark_returned(message.message_id)
            await asyncio.sleep(CONFIRM_S / 2)
        finally:
            self._in_flight.remove(entry)
        if entry.returned:
            raise UnroutableError(f"{message.message_id} was returned")

    def _mark_returned(self, message_id: str) -> None:
        for entry in self._in_flight:
            if entry.message_id == message_id and not entry.returned:
                entry.returned = True
                return

    def _take(self, sent: EncodedMessage, origin: Origin, sure: bool) -> bool:
        """It arrives; False where there is no such queue."""
        if not self.alive or sent.routing_key in self._broker.missing:
            return False
        message = Message(
            body=sent.body,
            headers=dict(sent.headers),
            message_id=sent.message_id,
            content_type=sent.content_type or "",
            serials=self._wishes.serials(sent.body),
        )
        self._broker.checker.copied(message, sent.routing_key, origin, sure=sure)
        return self._broker.publish(sent.routing_key, message)
