"""SimSender: the publisher of copies of one router process, with RabbitMQ's confirms and returns.

A `basic.return` names its message by nothing but its properties: as the real publisher does it, the first one in
flight with that message id is taken.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rabbitray.actors.errors import PublishTimeoutError, RefusedError, UncertainError, UnroutableError
from rabbitray.actors.publisher import EncodedMessage
from tests.simulation.broker import Message, SimBroker
from tests.simulation.faults import Faults
from tests.simulation.messages import Wishes

CONFIRM_S = 0.002
TIMEOUT_S = 5.0


@dataclass(slots=True, eq=False)
class InFlight:
    """One publish that the broker has not answered."""

    message_id: str
    returned: bool = False


class SimSender:
    """`router`: the process that it belongs to; dead, it sends nothing more."""

    def __init__(self, broker: SimBroker, faults: Faults, wishes: Wishes, router: int) -> None:
        self._broker, self._faults, self._wishes, self._router = broker, faults, wishes, router
        self._in_flight: list[InFlight] = []
        self.alive = True

    async def publish_message(self, message: EncodedMessage) -> None:
        """As `Publisher.publish_message`."""
        serials = self._wishes.serials(message.body)
        checker = self._broker.checker
        before = checker.copying(serials, self._router)
        checker.copying_now.update(serials)
        try:
            await self._publish(message, before)
        finally:
            checker.copying_now.subtract(serials)

    async def _publish(self, message: EncodedMessage, before: int) -> None:
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
                asyncio.get_running_loop().call_later(TIMEOUT_S + value, self._take, message, before, False)
                await asyncio.sleep(TIMEOUT_S)
                raise PublishTimeoutError("no confirm")
            case "uncertain":
                self._take(message, before, False)
                await asyncio.sleep(CONFIRM_S)
                raise UncertainError("the connection was lost")
            case "twice":
                self._take(message, before, False)
            case "slow":
                await asyncio.sleep(min(value, TIMEOUT_S / 2))
        await self._answered(message, before, sure=kind != "twice")

    async def _answered(self, message: EncodedMessage, before: int, *, sure: bool) -> None:
        entry = InFlight(message.message_id)
        self._in_flight.append(entry)
        try:
            await asyncio.sleep(CONFIRM_S / 2)
            if not self._take(message, before, sure):
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

    def _take(self, sent: EncodedMessage, before: int, sure: bool) -> bool:
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
        self._broker.checker.copied(message, sent.routing_key, before, sure=sure)
        return self._broker.publish(sent.routing_key, message)
