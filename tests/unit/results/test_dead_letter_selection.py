"""Which dead letters are taken for a replay, and what their copies carry."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from rabbitray.actors.message import headers as h
from rabbitray.cluster.results.dead_letter_selection import Selection, replay_copy


class _Bare:
    """A message that says nothing about itself but its id."""

    body = b"x"
    message_id = "m1"
    content_type = None
    content_encoding = None
    timestamp = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)

    def __init__(self, **headers: Any) -> None:
        self.headers: dict[str, Any] = headers


@pytest.mark.parametrize("key", [{}, {h.KEY: "k"}])
def test_the_message_id_itself_stays(key: dict[str, str]) -> None:
    """It is what the producer called it and, without a key, the identity."""
    copy = replay_copy(_Bare(**key), "jobs")
    assert copy.message_id == "m1"
    ours = {
        h.ATTEMPT: 0,
        h.REPLAYS: 1,
        h.REPLAYED: copy.headers[h.REPLAYED],
        h.ORIGIN: "jobs",
        h.FIRST_SEEN: 1767312000000,
    }
    assert copy.headers == key | ours


@pytest.mark.parametrize("forged", ["x", -5, True, None, 2.5])
def test_forged_history_does_no_harm(forged: object) -> None:
    message = _Bare(**{h.REPLAYS: forged, h.FIRST_SEEN: forged})
    assert replay_copy(message, "jobs").headers[h.REPLAYS] == 1
    assert Selection(seen_before_ms=1767312000000).takes(message)
