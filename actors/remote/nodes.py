"""What Ray says of the cluster's nodes: free CPUs, and which nodes are about to go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final

import ray
from ray.exceptions import RayError

from rabbitray.actors.remote.boot import Actor
from rabbitray.actors.remote.compat import inside

log = logging.getLogger(__name__)

HEAD: Final = "node:__internal_head__"
"""The resource by which Ray marks the head's node."""

LOOK_PAUSES_S: Final = (0.0, 1.0, 2.0)
"""Before each question for a node that may be about to go: Ray calls one alive while its processes end one by one."""


def draining_nodes() -> dict[str, int]:
    """The nodes that Ray is about to take away, drained or preempted: id -> until when (Unix ms; 0: Ray does not say).

    Where Ray's private call is gone, nodes are only noticed when they die. Blocks.
    """
    try:
        return inside.draining() or {}
    except RayError:
        return {}


def is_head(node: str) -> bool:
    """Whether this node is the head's. Blocks."""
    return any(one["NodeID"] == node and HEAD in one["Resources"] for one in ray.nodes())


def node_stays(node: str) -> bool:
    """Whether Ray says that a node is there and not drained; False, too, where it says nothing. Blocks."""
    try:
        alive = {str(one["NodeID"]) for one in ray.nodes() if one["Alive"]}
        return node in alive and node not in (inside.draining() or {})
    except Exception as error:  # noqa: BLE001 # its kinds are Ray's own, and many while the head is away
        log.warning("Ray does not say which nodes there are: %s", error)
        return False


async def node_leaves(node: str, *, stays: Callable[[str], Awaitable[bool]]) -> bool:
    """Whether a node goes or is gone, or Ray cannot say: asked for some seconds, until it does not stay."""
    for pause_s in LOOK_PAUSES_S:
        await asyncio.sleep(pause_s)
        if not await stays(node):
            return True
    return False


def fitting(free: Iterable[float], num_cpus: float) -> int:
    """Workers of `num_cpus` that fit where each node has so many CPUs `free`; none is spread over two nodes."""
    return sum(int(cpus / num_cpus + 1e-6) for cpus in free)


def beside_tasks(cpus: float, num_cpus: float, for_tasks: float) -> int:
    """Workers of `num_cpus` that leave so many of the cluster's `cpus` free for the tasks of their handlers."""
    return fitting([max(0.0, cpus - for_tasks)], num_cpus)


def cluster_cpus() -> float:
    """CPUs of all nodes together. Blocks."""
    return float(ray.cluster_resources().get("CPU", 0.0))


def free_cpus(*, without: Collection[str] = ()) -> list[float]:
    """Free CPUs of each node that stays and is none of `without`: two questions to Ray, however many nodes there are.

    Blocks. Where Ray's private call is gone, all nodes count as one.
    """
    nodes = inside.free_of_nodes()
    if nodes is None:
        return [ray.available_resources().get("CPU", 0.0)]
    leaving = {*draining_nodes(), *without}
    return [free.get("CPU", 0.0) for node, free in nodes.items() if node not in leaving]


def waits_for_place(actor: Actor) -> bool:
    """Whether no node has a place for this actor yet; False where Ray does not say. Blocks."""
    try:
        return bool(inside.waits_for_place(actor))
    except Exception as error:  # noqa: BLE001 # its kinds are Ray's own, and many while the head is away
        log.warning("Ray does not say whether an actor has its place: %s", error)
        return False


def growable(num_cpus: float) -> int | None:
    """Workers of `num_cpus` for which the node types of the cluster may still bring nodes; None where Ray does not say,
    or there is no bound. Blocks.
    """
    types = inside.node_types()
    if not types or any(most == inside.UNLIMITED for most, _ in types):
        return None
    there = (node["Resources"] for node in ray.nodes() if node["Alive"])
    workers = [own.get("CPU", 0.0) for own in there if HEAD not in own]
    most = sum(most * fitting([cpus], num_cpus) for most, cpus in types)
    return max(0, most - fitting(workers, num_cpus))
