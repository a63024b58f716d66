"""`python -m rabbitray ...` as a process of its own, and what a test asks of its queue."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import Publisher, PublisherConfig
from tests.kit.pool_settings import HANDLE
from tests.kit.root import ROOT


class Command:
    """One `python -m rabbitray ...` process; `more`: of its environment. `amqp_url`: None where `more` says it."""

    def __init__(self, amqp_url: str | None, ray_address: str | None, *arguments: str, **more: str) -> None:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"} | more
        environment.pop("RABBITMQ_URL", None)
        if amqp_url is not None:
            environment["RABBITMQ_URL"] = amqp_url
        environment.pop("RAY_ADDRESS", None)
        if ray_address is not None:
            environment["RAY_ADDRESS"] = ray_address
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rabbitray", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line_with(self, text: str) -> str:
        """The next line of its standard error that holds this text."""
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"it ended without {text!r}: {''.join(lines)}")

    def end(self, within_s: float = 90.0) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        try:
            out, err = self.process.communicate(timeout=within_s)
        finally:
            self.process.kill()
        return self.process.returncode, out, err


def run(amqp_url: str | None, ray_address: str | None, *arguments: str, within_s: float = 90.0) -> tuple[int, str, str]:
    return Command(amqp_url, ray_address, *arguments).end(within_s)


async def _publish(amqp_url: str, queue: str, jobs: list[Job]) -> None:
    async with Publisher(PublisherConfig(url=amqp_url, queue=queue)) as publisher:
        assert (await publisher.publish_many(jobs)).ok


def publish(amqp_url: str, queue: str, jobs: list[Job]) -> None:
    asyncio.run(_publish(amqp_url, queue, jobs))


def work(results: Path, queue: str, *more: str) -> tuple[str, ...]:
    """Arguments of a run on one queue."""
    return (
        "run", "--handler", HANDLE, "--queue", queue, "--results", str(results), "--initial-size", "2",
        "--max-size", "2", "--dedupe-capacity", "100000", "--json", *more,
    )  # fmt: skip


def queue_exists(amqp_url: str, queue: str) -> bool:
    return ready(amqp_url, queue) >= 0


def ready(amqp_url: str, queue: str) -> int:
    from rabbitray.actors.rabbitmq.depth import DepthProbe

    async def ask() -> int | None:
        probe = DepthProbe(amqp_url, queue)
        try:
            return await probe.ready()
        finally:
            await probe.close()

    depth = asyncio.run(ask())
    return -1 if depth is None else depth
