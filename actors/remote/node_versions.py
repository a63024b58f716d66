"""NodeVersions: which Ray and which Python each node of the cluster has."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


@dataclass(frozen=True, slots=True, order=True)
class NodeVersions:
    """`python`: to its minor, 3.11; `ray`: whole, 2.60.0."""

    ray: str
    python: str

    @classmethod
    def here(cls) -> NodeVersions:
        """Of this process."""
        return cls(ray.__version__, f"{sys.version_info.major}.{sys.version_info.minor}")

    def __str__(self) -> str:
        return f"Ray {self.ray} with Python {self.python}"


def node_versions(*, within_s: float) -> tuple[dict[str, NodeVersions], set[str]]:
    """By node (its host name and address): what each says that answers in time, and those that do not. Blocks.

    It runs a task of no CPU on each node, which needs nothing of ours there.
    """

    def told() -> tuple[str, str]:  # inside, so that its code travels: a node need not have this package
        import sys

        import ray

        return ray.__version__, f"{sys.version_info.major}.{sys.version_info.minor}"

    task = ray.remote(told)
    asked = {
        f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})": task.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in ray.nodes()
        if node["Alive"]
    }
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=within_s)
    found: dict[str, NodeVersions] = {}
    for name, answer in asked.items():
        try:
            found[name] = NodeVersions(*ray.get(answer, timeout=0))
        except (RayError, TimeoutError):
            ray.cancel(answer, force=True)
    return found, set(asked) - set(found)
