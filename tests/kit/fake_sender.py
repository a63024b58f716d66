"""FakeSender: the publisher of copies, into a FakeBroker."""

from __future__ import annotations

import asyncio
from collections import deque

from rabbitray.actors.publisher import EncodedMessage
from tests.kit.fake_broker import FakeBroker


class FakeSender:
    """The publisher of copies: into the FakeBroker. `failures`: raised by the next publishes, one each.

    `ambiguous`: the copy arrives although the publish fails.
    """

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self.failures: deque[Exception] = deque()
        self.ambiguous = False

    async def publish_message(self, message: EncodedMessage) -> None:
        await asyncio.sleep(0)
        if self.failures:
            if self.ambiguous:
                self._broker.accept(message)
            raise self.failures.popleft()
        self._broker.accept(message)
