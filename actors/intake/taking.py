"""How deliveries are had inside aiormq's own reader, where the scanner left them."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable
from typing import Any

import aiormq
from aiormq.abc import DeliveredMessage
from pamqp import commands as spec

from actors.reading import PropertiesLike

log = logging.getLogger(__name__)

Taker = Callable[[int, bool, PropertiesLike, bytes], None]
"""Gets tag, redelivered, properties and body of a message."""


async def taken_in_reader(message: DeliveredMessage) -> None:
    """What aiormq is told to call; never called, see `take_in_reader`."""
    log.error("Delivery %s was not taken in the reader", message.delivery_tag)


def take_in_reader(channel: aiormq.abc.AbstractChannel, takers: dict[str, Taker]) -> None:
    """Lets `takers` (by consumer tag) have deliveries inside the channel's reader, when the scanner left them.

    aiormq makes a task of every delivery (about 15 us each, cancelled when the channel closes). We only buffer, so
    the task buys nothing. Replaces `aiormq.Channel._on_deliver_frame` on this one channel.
    """

    async def on_deliver_frame(self: Any, frame: spec.Basic.Deliver) -> None:  # Any: aiormq.Channel internals
        header = await self._get_frame()
        message = await self._read_content(frame, header)
        take = takers.get(frame.consumer_tag or "")
        if take is not None:
            take(frame.delivery_tag or 0, bool(frame.redelivered), header.properties, message.body)

    channel._on_deliver_frame = types.MethodType(on_deliver_frame, channel)  # type: ignore[attr-defined] # aiormq.Channel has it
