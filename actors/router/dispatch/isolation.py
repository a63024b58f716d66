"""What happens to the messages that a lost worker had not finished, one of which may have ended it. Pure.

A group is halved until a message runs alone. Of 8 messages with one that ends its worker, 3 halvings leave that one
alone; it is parked when it has ended `max_crashes` workers alone. Whoever was in another half has run by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.dispatch.member import WorkerLostError


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeue:
    """They run again together.

    `with_last`: in one group with the last of the line, which the same worker left. `uncount`: the crash that was
    counted before this run is taken back.
    """

    group: Sequence[Delivery]
    with_last: bool = False
    uncount: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """They run again as two groups, the first of which is never the larger one."""

    first: Sequence[Delivery]
    second: Sequence[Delivery]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkSuspect:
    """This message goes to the dead letters: it has ended its worker alone `crashes` times."""

    delivery: Delivery
    crashes: int


Step = Requeue | Split | ParkSuspect


def next_step(
    group: Sequence[Delivery],
    loss: WorkerLostError,
    *,
    alone: bool,
    crashes: int,
    max_crashes: int,
    last_is_of_same_worker: bool,
) -> Step:
    """What to do with the messages that a lost worker left.

    `alone`: they are what is left of the run of one message on the quarantine's worker, and `crashes` is how many such
    runs of it ended badly, this one included. `last_is_of_same_worker`: the last group in the line was in the same
    worker when it ended. What such batches leave is one group: an async worker may have had thirty of one job each.
    """
    if not loss.may_be_poison:  # the node went away, or we ended the worker: that says nothing of the messages
        return Requeue(group=group, uncount=alone)
    if last_is_of_same_worker:
        return Requeue(group=group, with_last=True)
    if len(group) > 1:
        half = len(group) // 2
        return Split(first=group[:half], second=group[half:])
    if group and alone and crashes >= max_crashes:
        return ParkSuspect(delivery=group[0], crashes=crashes)
    return Requeue(group=group)
