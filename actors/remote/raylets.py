"""Raylets: whether the nodes of the cluster answer, asked of their raylets themselves.

Ray's GCS takes up to a minute to call a node dead whose link is cut or whose processes stand still; and a worker that
does not answer may hold Python's lock in C code. A raylet that gives no answer for seconds is neither.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

import ray

from rabbitray.actors.remote.calls import last_line
from rabbitray.actors.remote.compat import inside
from rabbitray.actors.remote.threads import RayThread

log = logging.getLogger(__name__)

ANSWER_WITHIN_S: Final = 2.0

Ask = Callable[[float], Awaitable[bool]]


def raylet_addresses() -> dict[str, str]:
    """`host:port` of the raylet of each node that Ray calls alive, by node id. Blocks."""
    alive = (node for node in ray.nodes() if node["Alive"])
    return {str(node["NodeID"]): f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}" for node in alive}


class Raylets:
    """Asks raylets; belongs to one event loop. `find` blocks; `open_raylet` gives None where Ray has no such door."""

    def __init__(
        self,
        *,
        find: Callable[[], Mapping[str, str]] = raylet_addresses,
        open_raylet: Callable[[str], Ask | None] = inside.open_raylet,
    ) -> None:
        self._find, self._open = find, open_raylet
        self._thread = RayThread("ask-for-raylets")
        self._asks: dict[str, Ask | None] = {}

    async def alive(self) -> set[str] | None:
        """The nodes that Ray calls alive; None where it does not say."""
        addresses = await self._addresses()
        return None if addresses is None else set(addresses)

    async def silent(self, nodes: Collection[str]) -> set[str]:
        """Those of these nodes that do not answer now; one that nobody can ask counts as one that does."""
        if unknown := [node for node in nodes if node not in self._asks]:
            addresses = await self._addresses() or {}
            self._asks |= {node: self._open(addresses[node]) for node in unknown if node in addresses}
        for node in self._asks.keys() - set(nodes):
            del self._asks[node]
        asks = {node: ask for node in nodes if (ask := self._asks.get(node)) is not None}
        answers = await asyncio.gather(*(ask(ANSWER_WITHIN_S) for ask in asks.values()))
        return {node for node, answer in zip(asks, answers, strict=True) if not answer}

    async def _addresses(self) -> Mapping[str, str] | None:
        try:
            return await self._thread.call(self._find)
        except Exception as error:  # noqa: BLE001 # its kinds are Ray's own, and many while the head is away
            log.warning("Ray does not say which nodes there are: %s", last_line(error))
            return None
