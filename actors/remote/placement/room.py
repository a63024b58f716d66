"""How many workers a cluster has room for: whole bundles on single nodes, over all resources. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rabbitray.actors.remote.placement.kind import (
    ACCELERATOR,
    CPU,
    GPU,
    UNIT,
    WorkerKind,
    amount,
    matches,
    shown,
    units,
)

MOST_ON_NODE: Final = 1_000
"""Workers that ask for nothing: Ray would place any number of them on one node."""

LABELS: Final = "labels"
"""What is short where no node passes the selector of a kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRoom:
    """What one node has free, or in all: Ray's name of a resource -> how much; and its labels.

    `gpus`: the free share of each of its devices; None where only their sum is known, see `devices`.
    """

    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """So many workers of a kind fit, and the resources (as the settings call them) that keep it from being more.

    Of `short` there is mostly one. Two with equal gains, or more where only all of them together would help.
    """

    workers: int
    short: tuple[str, ...] = ()


def room(nodes: Sequence[NodeRoom], kinds: Sequence[WorkerKind]) -> tuple[Room, ...]:
    """For each kind how many of its workers fit on the nodes, if nothing of another kind is placed there."""
    return tuple(_of_kind(nodes, kind) for kind in kinds)


def _of_kind(nodes: Sequence[NodeRoom], kind: WorkerKind) -> Room:
    bundle = kind.bundle
    able = [node for node in nodes if matches(kind.selectors, node.labels)]
    if not able:
        return Room(workers=0, short=(LABELS,) if nodes else ())
    counts = [{name: _count(node, name, taken) for name, taken in bundle.items()} for node in able]
    return Room(workers=sum(map(_fit, counts)), short=tuple(map(shown, _short(counts, list(bundle)))))


def _fit(counts: Mapping[str, int]) -> int:
    """Workers on a node whose resources are enough for so many each."""
    return min(counts.values(), default=MOST_ON_NODE)


def _short(counts: Sequence[Mapping[str, int]], names: Sequence[str]) -> list[str]:
    """The resource of which more would bring the most workers; where more of none alone would bring one, all those
    that are used up somewhere. `counts`: how many of each resource's part the nodes have.
    """
    gains = {name: sum(_gain(one, name) for one in counts) for name in names}
    most = max(gains.values(), default=0)
    if most:
        return [name for name in names if gains[name] == most]
    return [name for name in names if any(one[name] == _fit(one) for one in counts)]


def _gain(counts: Mapping[str, int], name: str) -> int:
    others = {other: count for other, count in counts.items() if other != name}
    return _fit(others) - _fit(counts)


def placeable(free: Room, have: Room, there: int) -> int:
    """How many more workers have a place now: what the nodes have `free` for, and never more than they `have` in all
    without the workers that are `there`, for what one takes is missing from Ray's figures only a moment after it was
    placed.
    """
    return max(0, min(free.workers, have.workers - there))


def beside_tasks(have: Iterable[NodeRoom], kind: WorkerKind, for_tasks: float) -> int | None:
    """How many workers of a kind leave so many of the CPUs that the nodes `have` free for the tasks of their handlers;
    None for any number.
    """
    if not for_tasks or not kind.num_cpus:
        return None
    cpus = sum(node.resources.get(CPU, 0.0) for node in have)
    return units(max(0.0, cpus - for_tasks)) // units(kind.num_cpus)


def places_beside_tasks(most: int, there: int, leaving: int) -> int:
    """How many more of `most` workers may be asked for; below 0 where too many are there, since a node has gone.

    One that is leaving has its place until its end; it is no reason for others to leave.
    """
    left = most - there
    return max(left - leaving, min(left, 0))


def _count(node: NodeRoom, name: str, taken: int) -> int:
    """How many of a bundle's part of one resource a node has."""
    if name != GPU:
        return units(node.resources.get(name, 0.0)) // taken
    sum_of = node.resources.get(GPU, 0.0)
    shares = devices(sum_of) if node.gpus is None else [units(share) for share in node.gpus]
    if taken < UNIT:
        return sum(share // taken for share in shares)
    return sum(share >= UNIT for share in shares) * UNIT // taken


def devices(free: float) -> list[int]:
    """The free shares of a node's GPUs in 1/10,000, where only their sum is known: Ray fills up the fullest device
    that has room, so that at most one is in parts.
    """
    whole, rest = divmod(units(free), UNIT)
    return [UNIT] * whole + ([rest] if rest else [])


def never_fits(nodes: Iterable[NodeRoom], kind: WorkerKind, *, what: str = "node") -> str | None:
    """Why no node, empty as it may be, can have a worker of this kind: `no node offers gpu=2; the largest has 1`.

    None where one can. `nodes` with all that they have.
    """
    there = list(nodes)
    if not there or room(there, [kind])[0].workers:
        return None
    able = [node for node in there if matches(kind.selectors, node.labels)]
    if not able:
        wanted = " or ".join(",".join(f"{key}={value}" for key, value in one) for one in kind.selectors)
        return f"no {what} has the labels {wanted}"
    for name, taken in kind.bundle.items():
        if not any(_count(node, name, taken) for node in able):
            return _lacking(able, name, taken, what)
    return f"no {what} offers {kind.words} together"


def _lacking(able: Sequence[NodeRoom], name: str, taken: int, what: str) -> str:
    if name.startswith(ACCELERATOR):
        return f"no {what} has an accelerator of type {name.removeprefix(ACCELERATOR)}"
    largest = amount(name, max(units(node.resources.get(name, 0.0)) for node in able))
    return f"no {what} offers {shown(name)}={amount(name, taken)}; the largest has {largest}"


def lacks_only(nodes: Iterable[NodeRoom], kind: WorkerKind, name: str) -> bool:
    """Whether a node could have a worker of this kind but for this one resource."""
    taken = kind.bundle.get(name, 0) / UNIT
    filled = [
        NodeRoom(resources={**node.resources, name: max(taken, node.resources.get(name, 0.0))}, labels=node.labels)
        for node in nodes
    ]
    return never_fits(filled, kind) is None
