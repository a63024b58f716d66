"""FakeKnownKeys: the store as a worker asks it which keys have their result."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from rabbitray import Job
from rabbitray.actors.message.key_hash import kind_of
from rabbitray.actors.message.payload_hash import payload_hash


class FakeKnownKeys:
    """`winners`: the tag of each key that has its result. `fail`: what the next questions raise; `silent`: no answer.

    `asked`: the keys of each question.
    """

    def __init__(self, *done: Job) -> None:
        self.winners = {str(job.id): tag_of(job) for job in done}
        self.asked: list[list[str]] = []
        self.fail: Exception | None = None
        self.silent = False

    async def known(self, keys: Sequence[str]) -> Mapping[int, int]:
        self.asked.append(list(keys))
        if self.silent:
            await asyncio.Event().wait()
        if self.fail is not None:
            raise self.fail
        return {row: self.winners[key] for row, key in enumerate(keys) if key in self.winners}


def tag_of(job: Job) -> int:
    """The tag of the row of this job."""
    return kind_of(job.message_type, job.user_id) ^ payload_hash(job)
