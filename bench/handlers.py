"""Handlers of the benches; the payload of a job steers them."""

from __future__ import annotations

import asyncio

from rabbitray.actors.message.job import Job


def noop(job: Job) -> None:
    """Does nothing, synchronously."""


async def wait(job: Job) -> None:
    """Waits as many milliseconds as the payload says, as a call to a distant service would."""
    await asyncio.sleep(float(job.payload) / 1000)
