"""VanishedQueues: queues of ours that were there and are gone, and what they held when they were last seen. Pure.

A queue goes away when somebody deletes it, when a policy `expires` does, and when a node of a Mnesia cluster that was
frozen comes back. Whoever makes it anew, empty, hides what was lost: so an event stays until somebody confirms it, and
a queue that had messages stays missing until then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

State = Literal["missing", "made", "back"]

VANISHED: Final = "vanished"
"""The name of the hold while a queue that had messages is missing."""

KEPT_MOST: Final = 1_000
"""Queues that are remembered at most, whatever the control table says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VanishedQueue:
    """One queue of ours that was gone, until that is confirmed. Counts are messages, of all `times` together.

    `at_s`: when that was noticed last (Unix s). `ready`: what waited in it when it was seen last, `seen_s_ago` before.
    `unacked`: delivered to us then and not acknowledged. `state`: *missing*, it still is, and the pool waits; *made*
    anew, empty; *back* without our doing.
    """

    queue: str
    at_s: float
    ready: int
    seen_s_ago: float
    unacked: int = 0
    times: int = 1
    state: State = "missing"

    @property
    def messages(self) -> int:
        """What it held, as far as it is known."""
        return self.ready + self.unacked

    def __str__(self) -> str:
        held = f"{self.ready:,} ready"
        if self.unacked:
            held += f", {self.unacked:,} delivered and not acknowledged"
        often = f" {self.times} times" if self.times > 1 else ""
        return f"queue {self.queue!r} vanished{often} with {held} (last seen {self.seen_s_ago:.0f} s before)"


@dataclass(frozen=True, slots=True)
class _Depth:
    """Messages ready in a queue, and when that was seen (Unix s)."""

    ready: int
    at_s: float


class VanishedQueues:
    """What was seen of our queues, and which of them vanished. Times are Unix seconds.

    `kept`: what `state` of the router before said, which counts for the same `broker` (host, port, vhost) only. `wait`:
    a queue that had messages stays missing until that is confirmed, else it is made anew at once.
    """

    def __init__(self, kept: object = None, *, broker: str = "", wait: bool = True) -> None:
        before = kept if isinstance(kept, Mapping) and kept.get("broker") == broker else {}
        self._broker = broker
        self._wait = wait
        self._depths: dict[str, _Depth] = dict(_pairs(before.get("depths"), _read_depth))
        self._events: dict[str, VanishedQueue] = dict(_pairs(before.get("events"), _read_event))
        if not wait:  # what the router before waited for is not waited for any more
            self._events = {
                name: replace(event, state="made") if event.state == "missing" else event
                for name, event in self._events.items()
            }
        self.count = 0
        """How often a queue was found gone, since the start."""

    @property
    def events(self) -> tuple[VanishedQueue, ...]:
        """What nobody has confirmed yet, the oldest first."""
        return tuple(self._events.values())

    @property
    def waiting(self) -> tuple[VanishedQueue, ...]:
        """Those for which the pool waits."""
        return tuple(event for event in self._events.values() if event.state == "missing")

    def waits_for(self, queue: str) -> bool:
        """Whether it is missing, and stays so until that is confirmed."""
        event = self._events.get(queue)
        return event is not None and event.state == "missing"

    def saw(self, queue: str, ready: int, now_s: float) -> VanishedQueue | None:
        """It is there; the event where it is back, which the pool waited for."""
        self._depths[queue] = _Depth(ready, now_s)
        if not self.waits_for(queue):
            return None
        self._events[queue] = found = replace(self._events[queue], state="back")
        return found

    def gone(
        self, queue: str, now_s: float, *, unacked: int = 0, inside: int = 0, stays_s: float | None = None
    ) -> VanishedQueue | None:
        """It is not there: a new event; None where it was never seen, or where that is known already.

        `inside`: what must have been in it, by our own count. `stays_s`: for how long messages stay in it at most: what
        was seen before that has left it.
        """
        seen = self._depths.get(queue)
        if seen is None or self.waits_for(queue):
            return None
        age_s = max(0.0, now_s - seen.at_s)
        ready = max(inside, 0 if stays_s is not None and age_s > stays_s else seen.ready)
        del self._depths[queue]
        self.count += 1
        before = self._events.get(queue)
        event = VanishedQueue(
            queue=queue,
            at_s=round(now_s, 3),
            ready=ready + (before.ready if before else 0),
            seen_s_ago=round(age_s, 1),
            unacked=unacked + (before.unacked if before else 0),
            times=1 + (before.times if before else 0),
            state="missing" if self._wait and ready + unacked else "made",
        )
        self._events[queue] = event
        return event

    def confirm(self) -> tuple[VanishedQueue, ...]:
        """Somebody knows: nothing is waited for any more. What was confirmed."""
        confirmed = self.events
        self._events.clear()
        return confirmed

    def state(self) -> dict[str, Any]:  # Any: JSON values
        """What the next router must know."""
        return {
            "broker": self._broker,
            "depths": {name: [depth.ready, round(depth.at_s)] for name, depth in self._depths.items()},
            "events": {name: asdict(event) for name, event in self._events.items()},
        }

    def worth_saving(self, saved: Mapping[str, Any]) -> bool:  # Any: JSON values
        """Whether the next router would decide otherwise by `saved`: depths change all the time."""
        now = self.state()
        return now["events"] != saved.get("events") or _filled(now) != _filled(saved)


def _filled(state: Mapping[str, Any]) -> dict[str, bool]:  # Any: JSON values
    return {name: bool(depth[0]) for name, depth in state.get("depths", {}).items()}


def _pairs(found: object, read: Any) -> list[tuple[str, Any]]:  # Any: a depth or an event, as `read` makes it
    """What was written into the control table; whatever else stands there is nothing."""
    entries = list(found.items())[:KEPT_MOST] if isinstance(found, Mapping) else []
    return [(str(name), made) for name, entry in entries if (made := read(entry)) is not None]


def _read_depth(entry: object) -> _Depth | None:
    match entry:
        case [int(ready), int() | float() as at_s]:
            return _Depth(ready, float(at_s))
    return None


def _read_event(entry: object) -> VanishedQueue | None:
    try:
        return VanishedQueue(**entry) if isinstance(entry, dict) else None
    except TypeError:
        return None


def waiting_reason(waiting: Sequence[VanishedQueue]) -> str:
    """Why the pool waits, and what ends that."""
    told = "; ".join(map(str, waiting))
    return (
        f"{told}. It is not made anew before somebody has looked: bring it back, or confirm the loss with "
        "`rabbitray resume --vanished`"
    )
