"""Reference jobs in the report's format (3.1). Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from rabbitray.actors.message.job import Job

FIRST_NAMES = (
    "Ada",
    "Bo",
    "Chidi",
    "Dana",
    "Elif",
    "Femi",
    "Grace",
    "Hiro",
    "Ines",
    "Jon",
    "Kaya",
    "Lin",
    "Mo",
    "Noor",
)
ZONES_H = (-8, -5, 0, 1, 2, 3, 5.5, 8, 9, 10)


def reference_jobs(count: int, *, seed: int = 1) -> Iterator[Job]:
    """`count` birthday (2 of 3) and anniversary jobs for users in many time zones, due at their nine o'clock."""
    dice = random.Random(seed)
    day = datetime(2026, 1, 2, tzinfo=UTC)
    for number in range(count):
        due = day + timedelta(hours=9 - dice.choice(ZONES_H))
        birthday = dice.random() < 2 / 3
        yield Job(
            user_id=f"user-{number}",
            message_type="BIRTHDAY" if birthday else "ANNIVERSARY",
            scheduled_at=due,
            payload={"name": dice.choice(FIRST_NAMES), "years": dice.randint(1, 60 if birthday else 20)},
        )
