"""What Ray says of the cluster's nodes: free CPUs, and which nodes are about to go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import ray
from ray.exceptions import RayError

log = logging.getLogger(__name__)

LOOK_PAUSES_S: Final = (0.0, 1.0, 2.0)
"""Before each question for a node that may be about to go: Ray calls one alive while its processes end one by one."""


def draining_nodes() -> set[str]:
    """Ids of the nodes that Ray is about to take away: drained, or preempted.

    Ray has no public call for it (2.60); where the private one is gone, nodes are only noticed when they die.
    """
    try:
        return _draining()
    except RayError:
        return set()


def _draining() -> set[str]:
    try:
        from ray._private.state import state

        asked = state.get_draining_nodes
    except (ImportError, AttributeError):
        return set()
    return set(asked())


def node_stays(node: str) -> bool:
    """Whether Ray says that a node is there and not drained; False, too, where it says nothing. Blocks."""
    try:
        alive = {str(one["NodeID"]) for one in ray.nodes() if one["Alive"]}
        return node in alive - _draining()
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


def free_cpus() -> list[float]:
    """Free CPUs of each node that stays: two questions to Ray, however many nodes and workers there are.

    Ray has no public call for it (2.60); where the private one is gone, all nodes count as one.
    """
    try:
        from ray._private.state import available_resources_per_node

        nodes = available_resources_per_node()
    except (ImportError, AttributeError):
        return [ray.available_resources().get("CPU", 0.0)]
    leaving = draining_nodes()
    return [free.get("CPU", 0.0) for node, free in nodes.items() if node not in leaving]
