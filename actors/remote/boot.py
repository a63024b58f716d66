"""How a process of the pool starts its logging and telemetry: a function given from above."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import ray
from ray.actor import ActorHandle

Actor = ActorHandle[Any]  # Any: Ray's handles are untyped
Rows = ray.ObjectRef[Any]  # result rows, wherever they are: read by the store only

Flush = Callable[[float], bool]
"""Sends what telemetry is left within so many seconds."""

Boot = Callable[[str, dict[str, str]], Flush]
"""Called once in each process with its role and its attributes, before anything else; picklable."""


def ray_attributes(actor_class: str, actor_name: str) -> dict[str, str]:
    """Ray's ids of this process, under the names that Ray's own tracing uses."""
    context = ray.get_runtime_context()
    return {
        "ray.actor_class": actor_class,
        "ray.actor_name": actor_name,
        "ray.actor_id": context.get_actor_id() or "",
        "ray.job_id": context.get_job_id(),
        "ray.node_id": context.get_node_id(),
        "ray.worker_id": context.get_worker_id(),
    }


def freeze_gc() -> None:
    """Takes what is loaded by now out of the reach of Python's cyclic garbage collector; called at the end of a start.

    Ray, our modules and the user's model are hundreds of thousands of objects that live as long as the process, and
    it goes through them over and over (docs/decisions.md has the figures).
    """
    gc.collect()
    gc.freeze()
