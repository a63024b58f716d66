"""How a process of the pool starts its logging and telemetry: a function given from above."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys
from collections.abc import Callable
from typing import Any, Final

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


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # in glibc's malloc.h
_CHOSEN_BY: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
KEPT_BYTES: Final = 32 * 1024 * 1024
"""A batch of large bodies, and what its jobs make of them."""
MAPPED_FROM_BYTES: Final = 4 * 1024 * 1024


def keep_freed_memory() -> bool:
    """Lets malloc keep up to KEPT_BYTES that were freed, for each of its arenas; what is MAPPED_FROM_BYTES large goes
    back at once. False where there is no glibc, or the environment has chosen.

    Bodies of 10 KiB and more are freed batch by batch. By itself glibc hands them back to the kernel each time, and
    then takes them page by page again: 40 page faults for a message of 100 KiB, half of its CPU time in a worker.
    """
    if any(name in os.environ for name in _CHOSEN_BY):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, MAPPED_FROM_BYTES)) and bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES))


def freeze_gc() -> None:
    """Takes what is loaded by now out of the reach of Python's cyclic garbage collector; called at the end of a start.

    Ray, our modules and the user's model are hundreds of thousands of objects that live as long as the process, and
    it goes through them over and over (docs/decisions.md has the figures).
    """
    gc.collect()
    gc.freeze()


def drop_teardown_messages() -> None:
    """What is written to standard error after the last handler of `atexit` is dropped: while Python is taken apart.

    Libraries made with nanobind, DuckDB's among them, write 60 lines about "leaks" then, in a process whose threads and
    frozen objects (`freeze_gc`) still hold theirs: in each worker that retires. Handlers of `atexit` that are
    registered after this call are still heard.
    """
    atexit.register(_drop_stderr)


def _drop_stderr() -> None:
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
