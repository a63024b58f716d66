"""When the copy of a dead letter would be the same message, and how often the broker delivered it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from rabbitray.actors.message import headers as h
from rabbitray.cluster.results.dead_letter_replay import (
    LOOKED_AT_MOST,
)
from rabbitray.cluster.results.dead_letter_selection import deliveries, unchanged
from tests.kit.dead_letters import AT, DEAD

# pure


class _Dead:
    """A dead letter of ours."""

    body = b"x"
    content_type = "application/json"
    content_encoding = None

    def __init__(self, headers: dict[str, Any] | None = None, **changes: Any) -> None:
        self.headers: dict[str, Any] = headers or {}
        self.message_id: str | None = changes.pop("message_id", "m1")
        self.timestamp: dt.datetime | None = changes.pop("timestamp", AT)
        vars(self).update(changes)


def test_an_unchanged_copy_has_all_but_the_brokers_counts() -> None:
    table = {h.KEY: "k", h.ERROR: "no", "x-death": [1], "x-delivery-count": 7, "x-acquired-count": 9}
    copy = unchanged(_Dead(table), DEAD)
    assert copy is not None
    assert copy.headers == {h.KEY: "k", h.ERROR: "no", "x-death": [1]}
    assert (copy.message_id, copy.routing_key, copy.timestamp_s) == ("m1", DEAD, int(AT.timestamp()))


@pytest.mark.parametrize(
    "changes",
    [
        {"message_id": None},
        {"timestamp": None},
        {"correlation_id": "c"},
        {"priority": 3},
        {"reply_to": "r"},
        {"headers": {"CC": ["elsewhere"]}},
    ],
)
def test_what_a_copy_would_change_is_not_copied(changes: dict[str, Any]) -> None:
    assert unchanged(_Dead(**changes), DEAD) is None


@pytest.mark.parametrize(
    ("headers", "count"),
    [
        ({}, 0),
        ({"x-delivery-count": 3}, 3),
        ({"x-delivery-count": 0, "x-acquired-count": LOOKED_AT_MOST}, LOOKED_AT_MOST),
        ({"x-delivery-count": "forged"}, 0),
    ],
)
def test_deliveries_are_what_the_broker_counted(headers: dict[str, Any], count: int) -> None:
    assert deliveries(_Dead(headers)) == count
