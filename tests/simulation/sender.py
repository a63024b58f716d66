"""SimSender: the publisher of copies of one router process, with RabbitMQ's confirms and returns.

Which message a `basic.return` means is for the real ConfirmChannel to find out: it gets frames as a connection brings
them.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from aiormq.base import FutureStore
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from rabbitray.actors.errors import PublishTimeoutError, RefusedError, UncertainError, UnroutableError
from rabbitray.actors.message.parcel import Record
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.publisher import EncodedMessage, PublisherConfig
from rabbitray.actors.publisher.amqp.channel import ConfirmChannel
from rabbitray.actors.publisher.message import Outgoing
from rabbitray.actors.publisher.message_maker import Maker
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.settlement.copies import CopyOutbox
from rabbitray.actors.router.settlement.retries import Rung
from tests.kit.dead_letters import headers_sent, properties_sent
from tests.simulation.broker import Message, SimBroker
from tests.simulation.channel import DeliveryOrigin, SimOpener
from tests.simulation.faults import Faults
from tests.simulation.messages import Wishes

ORIGIN: contextvars.ContextVar[DeliveryOrigin] = contextvars.ContextVar("origin")
ON_THE_WAY_S = 0.001
TIMEOUT_S = 5.0
MAKER = Maker(PublisherConfig(url="amqp://nowhere/", queue="jobs"))


class TracedOutbox:
    """The real outbox; beside it travels of which delivery a copy is. `opener`: whose deliveries they are."""

    def __init__(self, outbox: CopyOutbox, opener: SimOpener) -> None:
        self._outbox, self._opener = outbox, opener

    async def retry(self, delivery: Delivery, record: Record, rung: Rung) -> None:
        ORIGIN.set(self._opener.origin(delivery))
        await self._outbox.retry(delivery, record, rung)

    async def park(self, delivery: Delivery, failure: Failure, reason: str) -> None:
        ORIGIN.set(self._opener.origin(delivery))
        await self._outbox.park(delivery, failure, reason)

    async def again(self, delivery: Delivery, record: Record) -> None:
        ORIGIN.set(self._opener.origin(delivery))
        await self._outbox.again(delivery, record)


class _Confirms(ConfirmChannel):
    """The real one, whose frames are handed to it one by one."""

    def __init__(self, answered: Any) -> None:  # Any: `Answered`
        loop = asyncio.get_running_loop()
        tune, queue = SimpleNamespace(frame_max=131_072), SimpleNamespace(full=lambda: False, put_nowait=lambda _: None)
        connection: Any = SimpleNamespace(
            loop=loop,
            publisher_confirms=True,
            connection_tune=tune,
            write_queue=queue,
            _future_store_child=lambda: FutureStore(loop=loop),
        )
        super().__init__(connection, 1, answered)

    async def _reader(self) -> None:
        """Nothing comes by itself."""

    async def came_back(self, out: Outgoing, exchange: str, routing_key: str) -> None:
        """The broker has no queue for it."""
        header = ContentHeader()
        header.unmarshal(out.header)
        self.frames.put_nowait((0, header))
        if out.body:
            self.frames.put_nowait((0, ContentBody(out.body)))
        await self._on_return_frame(Basic.Return(312, "NO_ROUTE", exchange, routing_key))


class SimSender:
    """`alive`: whether the process is that it belongs to."""

    def __init__(self, broker: SimBroker, faults: Faults, wishes: Wishes) -> None:
        self._broker, self._faults, self._wishes = broker, faults, wishes
        self._channel = _Confirms(self._answered)
        self.alive = True

    async def publish_message(self, message: EncodedMessage) -> None:
        """As `Publisher.publish_message`."""
        origin = ORIGIN.get()
        self._broker.checker.copying(self._wishes.serials(message.body), origin)
        fault = self._faults.take("publish")
        kind, value = (fault.kind, fault.value) if fault else ("", 0.0)
        out, tag = self._sent(message)
        await asyncio.sleep(ON_THE_WAY_S)
        if kind in ("lost", "late", "uncertain"):
            del self._channel.in_flight[tag]  # its connection is lost, the next one knows nothing of it
        match kind:
            case "nacked":
                await self._channel._on_confirm_frame(Basic.Nack(tag))
            case "lost":
                await asyncio.sleep(TIMEOUT_S)
                raise PublishTimeoutError("no confirm")
            case "late":
                asyncio.get_running_loop().call_later(TIMEOUT_S + value, self._take, message, origin, False)
                await asyncio.sleep(TIMEOUT_S)
                raise PublishTimeoutError("no confirm")
            case "uncertain":
                self._take(message, origin, False)
                raise UncertainError("the connection was lost")
            case _:
                await self._arrives(message, origin, (out, tag), kind, value)
        await self._end(out)

    def _sent(self, message: EncodedMessage) -> tuple[Outgoing, int]:
        out = MAKER.message(message)
        out.promise = asyncio.get_running_loop().create_future()
        self._channel.try_send((out,))
        return out, self._channel.delivery_tag

    async def _arrives(
        self, message: EncodedMessage, origin: DeliveryOrigin, sent: tuple[Outgoing, int], kind: str, value: float
    ) -> None:
        """The broker takes or returns it, then confirms."""
        out, tag = sent
        if kind == "twice":
            self._take(message, origin, False)
        if kind == "slow":
            await asyncio.sleep(min(value, TIMEOUT_S / 2))
        if not self._take(message, origin, True):
            await self._channel.came_back(out, message.exchange, message.routing_key)
        await asyncio.sleep(ON_THE_WAY_S)
        await self._channel._on_confirm_frame(Basic.Ack(tag))

    def _answered(self, outs: Sequence[Outgoing], taken: bool) -> None:
        """As `Pipeline._answered`."""
        for out in outs:
            if out.promise is None or out.promise.done():
                continue
            if out.returned is not None:
                out.promise.set_exception(UnroutableError(f"{out.message_id} was returned"))
            elif taken:
                out.promise.set_result(None)
            else:
                out.promise.set_exception(RefusedError("nacked"))

    async def _end(self, out: Outgoing) -> None:
        promise: Any = out.promise
        await promise

    def _take(self, sent: EncodedMessage, origin: DeliveryOrigin, sure: bool) -> bool:
        """It arrives; False where there is no such queue."""
        if not self.alive or sent.routing_key in self._broker.missing:
            return False
        message = Message(
            body=sent.body,
            headers=headers_sent(sent),
            message_id=sent.message_id,
            content_type=properties_sent(sent).content_type or "",
            serials=self._wishes.serials(sent.body),
        )
        self._broker.checker.copied(message, sent.routing_key, origin, sure=sure)
        return self._broker.publish(sent.routing_key, message)
