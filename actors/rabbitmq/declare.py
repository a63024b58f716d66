"""Declares a Topology: what is missing is made; what exists is compared, and refused only for what would lose data."""

from __future__ import annotations

import logging
import re
from typing import Protocol

import aio_pika
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed

from rabbitray.actors.errors import TopologyError
from rabbitray.actors.rabbitmq.look import hidden, look, look_at_exchange
from rabbitray.actors.rabbitmq.rights import denied
from rabbitray.actors.rabbitmq.topology import DELIVERY_LIMIT, MAIN_LIMIT, Arguments, Topology
from rabbitray.actors.rabbitmq.versions import Server, read_server

log = logging.getLogger(__name__)

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' for (?:queue|exchange).*?: "
    r"received (?P<wanted>none|'[^']*'|the value '[^']*' of type '[^']*') "
    r"but current is (?P<current>none|'[^']*'|the value '(?P<value>[^']*)' of type '(?P<type>[^']*)')"
)
SINGLE_ACTIVE = "x-single-active-consumer"
QUEUE_TYPE = "x-queue-type"
_EXCHANGE_NEEDS = {
    "type": "direct: any other would bring a copy to several queues, or to none",
    "durable": "durable: copies would find no way once the broker has restarted",
    "auto_delete": "not auto-delete: copies would find no way once it is gone",
    "internal": "not internal: nobody may publish to such a one",
    "alternate-exchange": "without an alternate exchange: a copy for a queue that is gone would pass as delivered",
}


def server_of(connection: aio_pika.abc.AbstractConnection) -> Server:
    """What the broker at the other end says that it is."""
    transport = connection.transport
    return read_server(transport.connection.server_properties if transport is not None else {})


class MissingQueues(Protocol):
    """Who knows what was there before: is told of each queue, and says whether one that is missing is to be made."""

    def saw(self, queue: str, ready: int | None) -> None:
        """It is there; `ready`: messages, None where that is not known."""

    async def may_make(self, queue: str) -> bool:
        """It is not there: whether it is made, empty."""


class TopologyBuilder:
    """Declares a Topology over a connection; each step uses a channel of its own, since a refusal closes it.

    `missing`: asked before a queue is made; where nobody is, each is.
    """

    def __init__(
        self,
        connection: aio_pika.abc.AbstractConnection,
        topology: Topology,
        *,
        missing: MissingQueues | None = None,
    ) -> None:
        self._connection = connection
        self._missing = missing
        self._topology = topology.on(server_of(connection).version)
        self.single_active = False
        """Whether the main queue delivers to one of its consumers alone, as far as it may be compared; see `build`."""
        self.types: dict[str, str] = {}
        """Type of each queue that was declared or compared."""
        self.left_missing: set[str] = set()
        """Queues that are not there and were not made, since `missing` said no."""
        self._not_compared: list[str] = []  # queues and the exchange, for want of a right

    async def build(self) -> list[str]:
        """Declares what is missing and checks what is there; returns warnings. Raises TopologyError."""
        plan, queues = self._topology, self._topology.queues()
        warnings = await self._exchange(plan.exchange)
        for name in (plan.dead_queue, plan.dropped_queue, plan.queue, *map(plan.rung, plan.rung_delays_ms)):
            there, told = await self._queue(name, queues[name])
            warnings += told
            if there:
                await self._bind(name, plan.exchange, name)
        return warnings + self.not_compared()

    async def compare(self, name: str) -> tuple[str, ...]:
        """Warnings about one existing queue of the topology, which stays as it is. Raises TopologyError."""
        arguments = self._topology.queues()[name]
        found = await self._differences(name, arguments)
        if found is None:
            self._not_compared.append(name)
            return ()
        self.single_active = self.single_active or found.get(SINGLE_ACTIVE) is True
        self.types[name] = str(found.get(QUEUE_TYPE, arguments[QUEUE_TYPE]) or "classic")  # one without a type is that
        return check(name, found, arguments, self._topology)

    async def compare_exchange(self) -> tuple[bool | None, list[str]]:
        """Whether our exchange exists (None: this user may not look), and warnings about it; it stays as it is. Raises
        TopologyError where it is not as we need it."""
        name = self._topology.exchange
        seen = await look_at_exchange(self._connection, name)
        if seen.hidden:
            return None, [hidden("exchange", name)]
        if seen.there and not await self._require_equal(name):
            self._not_compared.append(name)
        return seen.there, []

    def not_compared(self) -> list[str]:
        """What their owner must make sure of, where this user had no right to compare what is there."""
        plan, lines = self._topology, []
        if plan.queue in self._not_compared:
            lines.append(
                f"queue {plan.queue!r} could not be compared (no `configure` right); make sure that it is durable, no "
                f"stream, and has x-dead-letter-exchange={plan.exchange!r}, x-dead-letter-routing-key="
                f"{plan.dropped_queue!r}, or messages may be lost"
            )
        if others := [name for name in self._not_compared if name != plan.queue]:
            lines.append(
                f"{', '.join(others)} could not be compared either; make sure that they were made by a start of this "
                "pool, or by `rabbitray publish --create`, with the settings of now"
            )
        return lines

    async def _exchange(self, name: str) -> list[str]:
        there, warnings = await self.compare_exchange()
        if there is not False:
            return warnings
        async with self._connection.channel() as channel:
            try:
                await channel.declare_exchange(name, aio_pika.ExchangeType.DIRECT, durable=True)
            except ChannelAccessRefused as refusal:
                raise TopologyError(denied("exchange", name)) from refusal
        return []

    async def _require_equal(self, name: str) -> bool:
        """Declares what exists once more: RabbitMQ compares type, flags and alternate exchange, and names the first
        difference. A passive declare compares nothing. False without the right to do so.
        """
        async with self._connection.channel() as channel:
            try:
                await channel.declare_exchange(name, aio_pika.ExchangeType.DIRECT, durable=True)
            except ChannelPreconditionFailed as refusal:
                raise TopologyError(_unlike(name, str(refusal))) from refusal
            except ChannelAccessRefused:
                return False
        return True

    async def _queue(self, name: str, arguments: Arguments) -> tuple[bool, tuple[str, ...]]:
        """Declares a queue, unless it shall stay missing; whether it is there now, and warnings about one that existed
        already, which stays as it is."""
        seen = await look(self._connection, name)
        if seen.hidden:
            return True, (hidden("queue", name),)
        if seen.down is not None:
            raise TopologyError(f"queue {name!r} is there and cannot be reached: {seen.down}; start its node again")
        if seen.there:
            if self._missing is not None:
                self._missing.saw(name, seen.ready)
            return True, await self.compare(name)
        if self._missing is not None and not await self._missing.may_make(name):
            self.left_missing.add(name)
            return False, ()
        await self._make(name, arguments)
        if self._missing is not None:
            self._missing.saw(name, 0)
        return True, ()

    async def _make(self, name: str, arguments: Arguments) -> None:
        async with self._connection.channel() as channel:
            try:
                await channel.declare_queue(name, durable=True, arguments=arguments)
            except ChannelAccessRefused as refusal:
                raise TopologyError(denied("queue", name)) from refusal
            except ChannelPreconditionFailed as refusal:
                raise TopologyError(_undeclared(name, str(refusal))) from refusal
        self.types[name] = str(arguments[QUEUE_TYPE])

    async def _bind(self, queue: str, exchange: str, key: str) -> None:
        async with self._connection.channel() as channel:
            try:
                bound = await channel.get_queue(queue, ensure=False)
                await bound.bind(exchange, routing_key=key)
            except ChannelAccessRefused:
                log.info("No right to bind %s to %s: taken as bound already", queue, exchange)

    async def _differences(self, name: str, wanted: Arguments) -> dict[str, object] | None:
        """Arguments in which the existing queue differs, found by asking until the broker agrees; None without the
        right to ask.

        RabbitMQ names one inequivalent argument at a time; each answer is adopted and the question repeated.
        """
        flags, trial, found = {"durable": True, "auto_delete": False}, dict(wanted), dict[str, object]()
        for _ in range(16):
            try:
                answer = await self._ask(name, flags, trial)
            except ChannelAccessRefused:
                return None
            if answer is None:
                return found
            argument, current = answer
            found[argument] = current
            if argument in flags:
                flags[argument] = current == "true"
            elif current is None:
                trial.pop(argument, None)
            else:
                trial[argument] = current
        return found

    async def _ask(self, name: str, flags: dict[str, bool], arguments: Arguments) -> tuple[str, object] | None:
        async with self._connection.channel() as channel:
            try:
                await channel.declare_queue(name, **flags, arguments=arguments)
            except ChannelPreconditionFailed as refusal:
                return parse_difference(str(refusal))
        return None


def parse_difference(text: str) -> tuple[str, object] | None:
    """(argument, current value) from RabbitMQ's 406 text `inequivalent arg ...`; None when it says else."""
    match = _INEQUIVALENT.search(text)
    if match is None:
        return None
    value = match["value"]
    if value is not None:
        return match["name"], _typed(value, match["type"])
    current = match["current"].strip("'")
    return match["name"], None if current == "none" else _typed(current, "")


def _undeclared(name: str, text: str) -> str:
    """Why a queue cannot be made, in one line, from RabbitMQ's 406 text."""
    full = "limit in vhost" in text and "reached" in text
    way_out = (
        "raise it, or have one rung with --retry-backoff fixed" if full else "set --queue-type or create it yourself"
    )
    return f"queue {name!r} cannot be declared: {' '.join(text.split())}; {way_out}"


def _unlike(name: str, text: str) -> str:
    """Why an exchange cannot be ours, in one line, from RabbitMQ's 406 text."""
    match = _INEQUIVALENT.search(text)
    if match is None:
        return f"exchange {name!r} cannot be used for retries and dead letters: {' '.join(text.split())}"
    wrong, current = match["name"], match["value"] or match["current"].strip("'")
    why = _EXCHANGE_NEEDS.get(wrong, "as we would declare it")
    return (
        f"exchange {name!r} exists with {wrong}={current!r}, but retries and dead letters need one that is {why}; "
        "name another one with --dead-letter-exchange, or delete it"
    )


def _typed(value: str, kind: str) -> object:
    if kind == "bool":
        return value == "true"
    return int(value) if kind != "longstr" and value.lstrip("-").isdigit() else value


def check(name: str, found: dict[str, object], wanted: Arguments, topology: Topology) -> tuple[str, ...]:
    """Warnings for what is only weaker in an existing queue. Raises TopologyError where it would lose data.

    `found`: the arguments in which it differs from `wanted`, with their values; None for one that it does not have.
    """
    if "auto_delete" in found:
        raise TopologyError(f"queue {name!r} is auto-delete: a pause would delete it; create it without auto_delete")
    if "durable" in found:
        raise TopologyError(f"queue {name!r} is not durable: messages die with the broker; create it durable")
    if found.get("x-queue-type") == "stream":
        raise TopologyError(
            f"queue {name!r} is a stream, which keeps what was worked and skips what came during a pause; make a "
            "quorum or classic queue (x-queue-type, also where the vhost's default is stream), or name another one"
        )
    if name != topology.queue:
        return _check_exact(name, found, wanted, topology)
    key = found.get("x-dead-letter-routing-key", topology.dead_queue)
    if isinstance(key, str) and key.startswith(f"{topology.queue}.retry."):
        raise TopologyError(f"queue {name!r} dead-letters into the retry rung {key!r}; use {topology.dead_queue!r}")
    limited = _check_limit(name, found, wanted, topology)
    return (*limited, f"queue {name!r} exists with {_show(found)}; taken as it is") if found else limited


def _check_limit(name: str, found: dict[str, object], wanted: Arguments, topology: Topology) -> tuple[str, ...]:
    """A quorum queue that drops at its delivery limit needs a dead-letter exchange to drop into."""
    limit = _limit(found, wanted, topology)
    if limit is None:
        return ()
    if found.get("x-dead-letter-exchange", topology.exchange) is not None:
        return ()
    own = found.get(DELIVERY_LIMIT, wanted.get(DELIVERY_LIMIT)) is not None
    said = f"{DELIVERY_LIMIT}={limit}" if own else f"RabbitMQ's default {DELIVERY_LIMIT} of {limit}"
    text = f"queue {name!r} has {said} and no dead-letter exchange: a crash loop would drop messages"
    if not topology.take_limited:
        raise TopologyError(
            f"{text}; set x-dead-letter-exchange={topology.exchange!r}, or take_limited_queue where a policy sets one: "
            f"{topology.limit_policy(max(limit, MAIN_LIMIT))}"
        )
    return (text,)


def _limit(found: dict[str, object], wanted: Arguments, topology: Topology) -> int | None:
    """How many deliveries the existing queue allows; None for any number."""
    if found.get("x-queue-type", wanted.get("x-queue-type")) != "quorum":
        return None
    limit = found.get(DELIVERY_LIMIT, wanted.get(DELIVERY_LIMIT))
    if not isinstance(limit, int):
        return topology.broker.delivery_limit
    return None if limit < 0 and topology.broker.unlimited is not None else limit


def _check_exact(name: str, found: dict[str, object], wanted: Arguments, topology: Topology) -> tuple[str, ...]:
    """A rung or the dead-letter queue is ours: its time and its way back must match, its type may be weaker.

    One that was made before we switched the limit off stays usable: its default limit is only warned about.
    """
    weaker = {"x-queue-type", "x-dead-letter-strategy", "x-overflow", "x-max-length", "x-max-length-bytes"}
    weaker |= {"x-queue-mode"}  # of a classic queue, and without effect from 3.12 on
    default_limit = DELIVERY_LIMIT in found and found[DELIVERY_LIMIT] is None
    allowed = weaker | {DELIVERY_LIMIT} if default_limit else weaker
    wrong = {argument: value for argument, value in found.items() if argument not in allowed}
    if wrong:
        ours = {argument: wanted.get(argument) for argument in wrong}
        raise TopologyError(f"queue {name!r} exists with {_show(wrong)}, we need {_show(ours)}; delete or rename it")
    warnings: list[str] = []
    if default_limit and (limit := _limit(found, wanted, topology)) is not None:
        warnings.append(
            f"queue {name!r} has RabbitMQ's default {DELIVERY_LIMIT} of {limit}: what is looked at and given back "
            "so often is lost; delete it when it is empty, it is made again without"
        )
    found = {argument: value for argument, value in found.items() if argument != DELIVERY_LIMIT}
    if found:
        warnings.append(f"queue {name!r} exists with {_show(found)}: weaker than what we would create")
    return tuple(warnings)


def _show(arguments: dict[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in sorted(arguments.items())) or "nothing"
