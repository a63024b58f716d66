"""What Ray says of the cluster's nodes: free CPUs, and which nodes are about to go."""

from __future__ import annotations

from collections.abc import Iterable

import ray
from ray.exceptions import RayError


def draining_nodes() -> set[str]:
    """Ids of the nodes that Ray is about to take away: drained, or preempted.

    Ray has no public call for it (2.60); where the private one is gone, nodes are only noticed when they die.
    """
    try:
        from ray._private.state import state

        return set(state.get_draining_nodes())
    except (ImportError, AttributeError, RayError):
        return set()


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
