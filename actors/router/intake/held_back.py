"""HeldBack: what RabbitMQ does not deliver again at once, since the node of its consumer is away. Pure.

A quorum queue of RabbitMQ 4.3 keeps the messages of such a consumer for `consumer_disconnected_timeout` (60 s), for its
node may come back. Meanwhile nobody counts them: they are neither ready nor held here.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class HeldBack:
    """How many messages are still to come back from the node that we were connected to before. `clock`: monotonic s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._expected = 0
        self._until = 0.0

    def left_behind(self, messages: int, for_s: float) -> None:
        """So many were unacknowledged on a node that we have left; they come within so many seconds."""
        if messages and for_s:
            self._expected += messages
            self._until = self._clock() + for_s

    def came(self) -> None:
        """A message was delivered again."""
        if self._expected:
            self._expected -= 1

    @property
    def count(self) -> int:
        """Messages that are expected still; those that have not come in time had been acked."""
        if self._expected and self._clock() >= self._until:
            self._expected = 0
        return self._expected
