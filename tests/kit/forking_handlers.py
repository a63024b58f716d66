"""Handlers of each shape that fork for each job; and a process that runs a batch through each.

Run: python -m tests.kit.forking_handlers FILE. Each entry of a handler appends a line to FILE: its process, its shape,
and the payload, which says how the forked child leaves. Prints for each shape what the parent's rows hold: the exit
codes of its children.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from rabbitray import Job, batch
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.actors.worker.handler.loading import load
from rabbitray.actors.worker.outcome.verdict import Categories
from rabbitray.actors.worker.worker import Worker, WorkerConfig
from tests.kit.worker_batches import buffer, whole

LEAVES = {"returns": 0, "exits": 0, "exits with 3": 3, "exits with a text": 1, "raises": 1, "raises what ends": 1}
"""How a child leaves, and with which code it ends."""

SHAPES = {
    "sync": [*LEAVES],
    "asynchronous": [*LEAVES, "waits"],
    "many": [*LEAVES],
    "many_asynchronous": [*LEAVES, "waits"],
    "SetUp": [*LEAVES],
}
"""How the children of each leave, one for each job."""

AROUND = ["exits", "exits with 3", "raises"]
"""How those of SetUp leave that it forks when it is made, set up and closed."""


class EndsError(Exception):
    """Whoever asks for its text gets a SystemExit."""

    def __str__(self) -> str:
        sys.exit(0)


def forked(shape: str, how: str) -> int | None:
    """The exit code of a child; None in the child."""
    with Path(sys.argv[1]).open("a") as file:
        file.write(f"{os.getpid()} {shape} {how}\n")
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    match how:
        case "exits":
            sys.exit(0)
        case "exits with 3":
            sys.exit(3)
        case "exits with a text":
            sys.exit("no more")
        case "raises":
            raise ValueError("from\nthe\x1b[2J child")
        case "raises what ends":
            raise EndsError
    return None


def sync(job: Job) -> Any:
    return forked("sync", job.payload)


async def asynchronous(job: Job) -> Any:
    await asyncio.sleep(0)
    code = forked("asynchronous", job.payload)
    if code is None and job.payload == "waits":
        await asyncio.sleep(0)
    return code


@batch
def many(jobs: list[Job]) -> list[Any]:
    codes: list[int] = []
    for job in jobs:
        code = forked("many", job.payload)
        if code is None:
            break
        codes.append(code)
    return codes


@batch
async def many_asynchronous(jobs: list[Job]) -> list[Any]:
    codes: list[int] = []
    for job in jobs:
        code = forked("many_asynchronous", job.payload)
        if code is None:
            if job.payload == "waits":
                await asyncio.sleep(0)
            break
        codes.append(code)
    return codes


class SetUp:
    """Forks when it is made, set up and closed, too."""

    def __init__(self) -> None:
        forked("SetUp", AROUND[0])

    def setup(self) -> None:
        forked("SetUp", AROUND[1])

    def __call__(self, job: Job) -> Any:
        return forked("SetUp", job.payload)

    async def close(self) -> None:
        await asyncio.sleep(0)
        forked("SetUp", AROUND[2])


async def run(shape: str) -> list[object]:
    """What the rows of a batch hold."""
    config = WorkerConfig(name="w", queue="q", early_s=30.0)
    worker = Worker(config, load(f"tests.kit.forking_handlers:{shape}"), Categories(), Tracing(queue="q"))
    _, rows = await whole(worker, buffer(*SHAPES[shape]))
    await worker.close()
    return [json.loads(row["result"]) for row in rows]


async def main() -> None:
    sys.stdout.write(json.dumps({shape: await run(shape) for shape in SHAPES}) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
