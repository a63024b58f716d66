"""Faults: which call into a double goes wrong, and how. Every await of the router on the outside passes one point.

connect                     refused, late S, thrown, hang
qos, consume, cancel        refused (not done, the connection dies), late S, late_answer S, lost_answer S (done, then
                            silence until the connection dies), thrown (done, and aiormq gives the connection up:
                            CancelledError)
publish                     nacked, lost (timed out, in no queue), late S (timed out, arrives S later), uncertain
                            (arrived, and the connection was lost), twice, slow S
write, dead_rows, control   unavailable, answer_lost (done), twice, slow S, payload_lost, bug, restart S (done, then
                            the store dies)
spawn, ready                refused, late S, died
node                        slow S (nobody says yet whether the worker's node goes away)
run, more                   unreachable (Ray cannot say), died, node, slow S, bug, answer_lost (done; then it dies)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.simulation.script import Fault

WIRE = ("refused", "late", "late_answer", "lost_answer", "thrown")
STORE = ("unavailable", "answer_lost", "twice", "slow", "bug", "restart")
CALL = ("unreachable", "died", "node", "slow", "bug", "answer_lost")

KINDS: dict[str, tuple[str, ...]] = {
    "connect": ("refused", "late", "thrown", "hang"),
    "qos": WIRE,
    "consume": WIRE,
    "cancel": WIRE,
    "publish": ("nacked", "lost", "late", "uncertain", "twice", "slow"),
    "write": (*STORE, "payload_lost"),
    "dead_rows": STORE,
    "control": STORE,
    "spawn": ("refused",),
    "ready": ("refused", "late", "died"),
    "node": ("slow",),
    "run": CALL,
    "more": CALL,
}


class Faults:
    """The faults of one history."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._due = {(fault.place, fault.nth): fault for fault in faults}
        self._passed: Counter[str] = Counter()

    def take(self, place: str) -> Fault | None:
        """What goes wrong with this call, if anything."""
        self._passed[place] += 1
        return self._due.get((place, self._passed[place])) if self._due else None
