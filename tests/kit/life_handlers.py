"""Handlers of jobs that last, of workers that break, and of jobs that use Ray themselves."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import ray

from rabbitray import Job, WorkerBroken


def lasts(job: Job) -> dict[str, Any]:
    """Runs for `s` seconds and tells how far it is."""
    began, seconds = time.monotonic(), float(job.payload["s"])
    while (passed := time.monotonic() - began) < seconds:
        job.progress(passed / seconds, f"{passed:.0f} of {seconds:.0f}")
        time.sleep(0.2)
    return {"pid": os.getpid()}


def breaks(job: Job) -> dict[str, Any]:
    """Its worker is broken where `times` is above 0, the first so many times that the job runs."""
    runs = Path(job.payload["file"])
    with runs.open("a") as file:
        file.write(f"{job.key} {job.attempt} {os.getpid()}\n")
    ran = sum(line.startswith(f"{job.key} ") for line in runs.read_text().splitlines())
    if ran <= job.payload["times"]:
        raise WorkerBroken("no CUDA")
    return {"pid": os.getpid()}


async def blocks(job: Job) -> int:
    """Holds the event loop up for `s` seconds."""
    time.sleep(job.payload["s"])  # noqa: ASYNC251 # that is the mistake
    return os.getpid()


@ray.remote(num_cpus=1)
def square(number: int) -> int:
    """A task of Ray's, with a CPU of its own."""
    return number * number


def asks_ray(job: Job) -> int:
    """Waits for a task, in the handler's thread."""
    found: int = ray.get(square.remote(job.payload["n"]), timeout=60)
    return found


async def awaits_ray(job: Job) -> int:
    """Waits for a task, on the event loop."""
    found: int = await square.remote(job.payload["n"])
    return found
