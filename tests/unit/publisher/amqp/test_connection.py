"""A publisher's link: aiormq gives up a dead connection by throwing CancelledError into whoever waits on it."""

from __future__ import annotations

import asyncio
from typing import Any

import aiormq
import pytest

from rabbitray.actors.errors import BrokerUnreachableError
from rabbitray.actors.publisher import PublisherConfig
from rabbitray.actors.publisher.amqp.connection import Link, addresses_of

CONFIG = PublisherConfig(url="amqp://guest:guest@127.0.0.1:1/", queue="q")


async def thrown_in(*_: Any, **__: Any) -> Any:
    """As an RPC of aiormq ends when the heartbeat failed."""
    raise asyncio.CancelledError


async def test_a_cancellation_that_nobody_asked_for_is_a_broker_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aiormq, "connect", thrown_in)
    with pytest.raises(BrokerUnreachableError, match=r"127\.0\.0\.1:1"):
        await Link.open(CONFIG, lambda *_: None, addresses_of(CONFIG))


async def test_our_own_cancellation_ends_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forever(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(aiormq, "connect", forever)
    opening = asyncio.create_task(Link.open(CONFIG, lambda *_: None, addresses_of(CONFIG)))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
