"""Which dead letters are taken for a replay, and what their copies carry."""

from __future__ import annotations

from typing import Any

import pytest

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.properties.property_list import from_raw
from rabbitray.cluster.results.dead_letter_selection import DeadLetter, Selection, first_seen_ms, replay_copy
from tests.kit.dead_letters import AT, dead_letter, headers_sent
from tests.kit.raw_amqp import BEYOND, ONE_OF_EACH, entry, properties, scalar, table


def bare(**headers: Any) -> DeadLetter:
    """A message that says nothing about itself but its id and time."""
    return dead_letter(headers, timestamp=AT)


@pytest.mark.parametrize("key", [{}, {h.KEY: "k"}])
def test_the_message_id_itself_stays(key: dict[str, str]) -> None:
    """It is what the producer called it and, without a key, the identity."""
    copy = replay_copy(bare(**key), "jobs")
    assert copy.message_id == "m1"
    ours = {h.ATTEMPT: 0, h.REPLAYS: 1, h.ORIGIN: "jobs", h.FIRST_SEEN: 1767312000000}
    assert headers_sent(copy) == key | ours | {h.REPLAYED: copy.headers[h.REPLAYED]}


@pytest.mark.parametrize("forged", ["x", -5, True, None, 2.5])
def test_forged_history_does_no_harm(forged: object) -> None:
    message = bare(**{h.REPLAYS: forged, h.FIRST_SEEN: forged})
    assert headers_sent(replay_copy(message, "jobs"))[h.REPLAYS] == 1
    assert Selection(seen_before_ms=1767312000000).takes(message)


def test_a_header_is_in_the_replay_what_it_was_of_every_type() -> None:
    copy = replay_copy(DeadLetter(b"x", from_raw(properties(table(ONE_OF_EACH)))), "jobs")
    assert copy.entries == table(ONE_OF_EACH)[4:]
    assert h.HEADERS_CUT not in copy.headers


def test_what_cannot_be_read_stays_behind_and_is_counted() -> None:
    odd = {b"when": scalar("T", BEYOND[0]), b"\xff": scalar("V"), b"z": scalar("d", 0.1)}
    copy = replay_copy(DeadLetter(b"x", from_raw(properties(table(odd)))), "jobs")
    assert (copy.entries, copy.headers[h.HEADERS_CUT]) == (entry(b"z", odd[b"z"]), 2)


@pytest.mark.parametrize(
    ("stamp", "seen"),
    [
        (5, None),  # 1970
        (1_767_312_000, 1_767_312_000_000),
        (1_767_312_000_000, 1_767_312_000_000),
        (2**62, None),
        (2**64 - 1, None),
    ],
)
def test_a_time_in_milliseconds_is_known_as_such_and_noise_is_none(stamp: int, seen: int | None) -> None:
    message = DeadLetter(b"x", from_raw(b"\x00\x40" + stamp.to_bytes(8, "big")))
    assert first_seen_ms(message) == seen


def test_a_replay_without_the_producers_headers_says_how_many_stay_behind() -> None:
    message = dead_letter({"a": 1, "b": 2, h.KEY: "k", h.HOPS: 7, h.ORIGIN: "x" * 9_000, h.FIRST_SEEN: 2**62})
    copy = replay_copy(message, "jobs", keep="properties")
    assert (copy.entries, copy.headers[h.HEADERS_CUT], copy.headers[h.KEY]) == (b"", 2, "k")
    assert (copy.headers[h.ORIGIN], h.HOPS in copy.headers) == ("jobs", False), "it may wait anew"
    assert copy.headers[h.FIRST_SEEN] <= copy.headers[h.REPLAYED]
