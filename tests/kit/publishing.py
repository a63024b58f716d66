"""What the publisher's tests share: its queue, its config, jobs, and a sink for its figures."""

from __future__ import annotations

from typing import Any

from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import PublishBatch, PublisherConfig

QUEUE = "jobs"


def config(url: str, **changes: Any) -> PublisherConfig:
    return PublisherConfig(**{"url": url, "queue": QUEUE, **changes})


def some_jobs(count: int) -> list[Job]:
    return [Job(user_id=f"user-{n}", message_type="BIRTHDAY") for n in range(count)]


# -- measuring and tracing


class Sink:
    def __init__(self) -> None:
        self.batches: list[PublishBatch] = []

    def add(self, batch: PublishBatch) -> None:
        self.batches.append(batch)
