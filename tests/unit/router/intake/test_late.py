"""Which of the messages that are held RabbitMQ has taken back, and how that is told."""

from __future__ import annotations

import math

import msgspec

from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.late import late_among, late_words
from tests.kit.deliveries import delivery


def held(key: str, since: float) -> Delivery:
    found = delivery(1)
    found.arrived_at = since
    found.parcel = msgspec.structs.replace(found.parcel, key=key or None, message_id="the-id")
    return found


def test_those_that_are_as_old_as_the_time_out_or_nearly_so_the_oldest_first() -> None:
    young, old, nearly, older = (held(name, at) for name, at in (("y", 950), ("o", 900), ("n", 905), ("r", 850)))
    assert late_among([young, old, nearly, older], 1_000, 100) == [older, old, nearly]
    assert late_among([young, older], 1_000, math.inf) == []
    assert late_among([], 1_000, 100) == []


def test_the_line_names_the_first_one_by_key_or_id_and_tells_how_many_more() -> None:
    first = held("k17", 100.0)
    assert late_words([first, held("x", 200)], 2_000.5, 1800, "jobs") == (
        "message k17 of queue jobs was not settled for 1,900.5 s, and 1 more: RabbitMQ's consumer_timeout is 1,800 s"
    )
    assert late_words([held("", 100.0)], 2_000, 1800, "jobs").startswith("message the-id of queue jobs was not settled")
    assert late_words([], 0, 1800, "jobs") == (
        "a message of queue jobs was not settled within RabbitMQ's consumer_timeout (1,800 s)"
    )
