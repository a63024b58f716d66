"""NodeWatch: which nodes with workers of ours give no sign of life, and what becomes of what those workers have."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final, Generic, Literal, Protocol, TypeVar

from rabbitray.actors.router.dispatch.member import Member
from rabbitray.actors.router.dispatch.pool import Pool

log = logging.getLogger(__name__)

P = TypeVar("P")

SILENT_AFTER_S: Final = 5.0
"""A node that has not answered for so long gets no new batch, and is shown as silent."""

EVENTS_KEPT: Final = 20

NodeFate = Literal["silent", "heard again", "given up", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEvent:
    """What happened to a node with `workers` of ours, which had `messages` in hand. `at`: Unix seconds.

    `given up`: it gave no answer for longer than the settings allow, and may still live; `lost`: Ray calls it dead.
    """

    at: float
    node: str  # its host name and address, or Ray's id of it
    fate: NodeFate
    workers: int
    messages: int
    silent_s: float = 0.0

    def __str__(self) -> str:
        what = f"{self.workers} workers with {self.messages:,} messages"
        match self.fate:
            case "silent":
                return f"node {self.node} has given no answer for {self.silent_s:.0f} s: {what} there get no new batch"
            case "heard again":
                return f"node {self.node} answers again, after {self.silent_s:.0f} s"
            case "given up":
                return (
                    f"node {self.node} has given no answer for {self.silent_s:.0f} s: {what} are given up, and the "
                    "messages run elsewhere; where it lives, a handler may run twice"
                )
        return f"node {self.node} is lost: {what} run elsewhere"


class NodesThatAnswer(Protocol):
    """Ray's nodes, asked themselves. `alive`: None where Ray does not say."""

    async def silent(self, nodes: Collection[str]) -> set[str]: ...
    async def alive(self) -> set[str] | None: ...


@dataclass(slots=True)
class _Node:
    """A node with workers of ours, as it was seen last."""

    name: str
    heard_at: float
    workers: int = 0
    messages: int = 0
    silent: bool = False
    given_up: bool = False


class NodeWatch(Generic[P]):
    """Looks after the nodes on which `pools` have workers; `home`, where this process runs, is none of them.

    `give_up_s`: a node that is silent for so long loses what its workers have; 0: Ray decides. `clock`: monotonic
    seconds.
    """

    def __init__(
        self,
        pools: Iterable[Pool[P]],
        nodes: NodesThatAnswer,
        *,
        give_up_s: float,
        on_change: Callable[[], None],
        home: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pools, self._nodes, self._home = tuple(pools), nodes, home
        self._give_up_s, self._on_change, self._clock = give_up_s, on_change, clock
        self._known: dict[str, _Node] = {}
        self.events: deque[NodeEvent] = deque(maxlen=EVENTS_KEPT)

    def silent_s(self, node: str) -> float | None:
        """How long a node has given no answer; None for one that is not silent."""
        known = self._known.get(node)
        return self._clock() - known.heard_at if known is not None and known.silent else None

    def of(self, member: Member[P]) -> float | None:
        """The same of a worker's node."""
        return self.silent_s(member.info.node) if member.info is not None else None

    @property
    def silent(self) -> tuple[str, ...]:
        """The ids of the nodes that are silent."""
        return tuple(node for node, known in self._known.items() if known.silent)

    async def look(self) -> None:
        """Every few seconds: asks each node once; what follows is done at once."""
        there = self._there()
        there |= {node: [] for node in self.silent if node not in there}  # given up: is it back, or dead?
        silent = await self._nodes.silent(there.keys()) if there else set()
        now = self._clock()
        for node, members in there.items():
            known = self._known.get(node) or _Node(_name(members), now)
            self._known[node] = known
            if members:
                known.workers, known.messages = len(members), sum(map(_messages, members))
            if node in silent:
                self._unheard(known, members, now - known.heard_at)
            else:
                self._heard(known, members, now)
        if left := [node for node in self._known if not there.get(node)]:
            await self._leave(left)

    def _there(self) -> dict[str, list[Member[P]]]:
        found: dict[str, list[Member[P]]] = {}
        for pool in self._pools:
            for member in pool.members:
                if member.info is not None and member.info.node != self._home:
                    found.setdefault(member.info.node, []).append(member)
        return found

    def _heard(self, known: _Node, members: list[Member[P]], now: float) -> None:
        if known.silent:
            self._tell(known, "heard again", now - known.heard_at)
            for member in members:
                member.silent = False
            self._on_change()
        known.heard_at, known.silent, known.given_up = now, False, False

    def _unheard(self, known: _Node, members: list[Member[P]], for_s: float) -> None:
        if for_s < SILENT_AFTER_S:
            return
        for member in members:
            member.silent = True
        if not known.silent:
            known.silent = True
            self._tell(known, "silent", for_s)
        if self._give_up_s and for_s >= self._give_up_s:
            if not known.given_up:
                known.given_up = True
                self._tell(known, "given up", for_s)
            for pool in self._pools:
                pool.give_up(members, f"its node has given no answer for {for_s:.0f} s")

    async def _leave(self, left: Iterable[str]) -> None:
        """These have no worker of ours any more: they retired, were given up, or their node died."""
        alive = await self._nodes.alive()
        if alive is None:
            return
        for node in left:
            if node not in alive:
                self._tell(self._known.pop(node), "lost", 0.0)
            elif not self._known[node].silent:
                del self._known[node]

    def _tell(self, known: _Node, fate: NodeFate, silent_s: float) -> None:
        event = NodeEvent(
            at=round(time.time(), 1),
            node=known.name,
            fate=fate,
            workers=known.workers,
            messages=known.messages,
            silent_s=round(silent_s, 1),
        )
        self.events.append(event)
        (log.info if fate == "heard again" else log.warning)("%s", event)


def _name(members: list[Member[P]]) -> str:
    info = members[0].info if members else None
    assert info is not None, "a node is known by its workers"
    return f"{info.host} ({info.address})" if info.host else info.node


def _messages(member: Member[P]) -> int:
    return sum(len(batch.pending) for batch in member.batches.values())
