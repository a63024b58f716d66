"""AckSender: settles the deliveries of one channel. It holds the channel's AckLedger; nobody else touches that."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence

from pamqp import commands as spec

from rabbitray.actors.message.parcel import Parcel
from rabbitray.actors.router.intake.ack_ledger import Ack, AckLedger
from rabbitray.actors.router.intake.frame_writer import Frame
from rabbitray.actors.telemetry.span import NO_SPAN
from rabbitray.actors.telemetry.tracing import Tracing

TIMER_SLACK_S = 0.01
"""How much later than due the timer comes, so that what it comes for is due."""


class AckSender:
    """Sends an ack for what is finished, as soon as the ledger allows, and a nack for what goes back to the queue.

    `write` gets the frames of one write, in order; `clock` is monotonic, in seconds. All methods take deliveries of
    this channel only and belong to one event loop.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Frame]], None],
        *,
        single_after_s: float,
        tracing: Tracing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._ledger = AckLedger(single_after_s=single_after_s)
        self._tracing = tracing
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self.given_back = 0  # messages
        self.delivered: Callable[[int], None] = self._ledger.delivered
        """Notes the tag of a new delivery. (The ledger's own method: it runs once a message.)"""

    @property
    def unacked(self) -> int:
        """Messages that RabbitMQ counts as unacknowledged on this channel."""
        return self._ledger.unacked

    def still_open(self, tags: Iterable[int]) -> list[int]:
        """Those that are neither finished nor given back."""
        return self._ledger.still_open(tags)

    def finish(self, tags: Iterable[int]) -> None:
        """The outcome of these deliveries is safe: ack them as soon as may be."""
        now = self._clock()
        self._ledger.finish(tags, now)
        self._flush(now)

    def give_back(self, tags: Iterable[int], messages: Iterable[Parcel]) -> None:
        """Returns to the queue (nack with requeue) those that are still open, in one write.

        `messages` are what the tags belong to, for the traces.
        """
        if back := self._ledger.give_back(tags):
            self.given_back += len(back)
            with self._tracing.settle_span("nack", len(back), messages=messages):
                self._write([_nack(tag) for tag in back])
            self._flush(self._clock())

    def settle_all(self) -> None:
        """Acks whatever is finished and gives the rest back, in one write; nothing is sent after it.

        What is open is given back first, so that one frame acks the rest: beyond 32 frames a quorum queue's channel
        keeps them back, and drops them when it closes (tried on 3.10.8).
        """
        self.stop()
        tags = self._ledger.give_back_open()
        with self._tracing.settle_span("nack", len(tags)) if tags else NO_SPAN:
            self._write([*map(_nack, tags), *map(_ack, self._ledger.due(math.inf))])

    def stop(self) -> None:
        """Ends the timer; may be called twice."""
        if self._timer is not None:
            self._timer.cancel()

    def _flush(self, now: float) -> None:
        """Sends the acks that are due and comes back when the next single ack is."""
        if frames := self._ledger.due(now):
            self._write([_ack(ack) for ack in frames])
        if self._timer is None and (due := self._ledger.next_due()) is not None:
            delay = max(0.0, due - now) + TIMER_SLACK_S
            self._timer = asyncio.get_running_loop().call_later(delay, self._flush_later)

    def _flush_later(self) -> None:
        self._timer = None
        self._flush(self._clock())


def _ack(ack: Ack) -> spec.Basic.Ack:
    return spec.Basic.Ack(delivery_tag=ack.tag, multiple=ack.multiple)


def _nack(tag: int) -> spec.Basic.Nack:
    return spec.Basic.Nack(delivery_tag=tag, requeue=True)
