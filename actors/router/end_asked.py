"""EndAsked: that this router is to end for good, who wants it, and how long it may take."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

log = logging.getLogger(__name__)

DRAIN_ASKED: Final = "asked to drain"
"""Why it ends where `rabbitray drain` asked for it."""

NODE_DRAINS: Final = "its node is draining"
"""Why it ends where Ray is about to take its node away."""

ENDS_WELL: Final = (DRAIN_ASKED, NODE_DRAINS)

DRAIN_SHARE: Final = 0.6
"""Of the time that Ray leaves a node, for what is in flight; the rest is for results, connections and traces."""


class EndAsked:
    """Set once, by whoever asks first. `clock`: monotonic seconds; `wall`: Unix seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock, self._wall = clock, wall
        self._until_s: float | None = None
        self.event = asyncio.Event()
        self.why = DRAIN_ASKED

    def by_command(self) -> None:
        """`rabbitray drain` asks for the end."""
        log.info("Draining: asked to by `rabbitray drain`")
        self.event.set()

    def by_node(self, node: str, draining: Mapping[str, int]) -> None:
        """Where this node is one of those that are drained, with their deadlines (Unix ms; 0: none), the pool drains,
        too.
        """
        if node not in draining or self.event.is_set():
            return
        left_s = draining[node] / 1000 - self._wall()
        if draining[node]:
            self._until_s = self._clock() + left_s
        log.warning("The node of the router is draining%s", f", it goes in {left_s:.0f} s" if draining[node] else "")
        self.why = NODE_DRAINS
        self.event.set()

    def in_time(self, within_s: float) -> float:
        """How long what is in flight may take: `within_s`, or less where the node goes earlier."""
        if self._until_s is None:
            return within_s
        return min(within_s, max(0.0, DRAIN_SHARE * (self._until_s - self._clock())))
