"""Which messages of a queue were meant for another one: only copies that came through our own exchange."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.properties.route import read_route, route_of
from rabbitray.actors.rabbitmq.strays import Strays

OWN = "dlx"
COPY = {h.ATTEMPT: 1}


def death(queue: object, key: object, exchange: object = OWN) -> dict[str, Any]:
    """What RabbitMQ writes when a message leaves a queue."""
    return {"queue": queue, "reason": "expired", "exchange": exchange, "routing-keys": [key], "count": 1}


def is_stray(exchange: str, key: str, table: dict[str, Any] | None = None, queue: str = "jobs") -> bool:
    """By both steps, as the intake takes them."""
    strays = Strays(OWN, queue)
    holds = strays.holds(exchange, key, table)
    quickly = route_of(exchange, key).startswith(strays.way) or h.DEATHS in (table or {})
    assert quickly or not holds, "the quick look misses none"
    return holds


@pytest.mark.parametrize("key", ["jobs.retry.2000", "jobs.dead", "jobs.dropped", "other.retry.60000", "a.b.dead"])
@pytest.mark.parametrize("table", [None, {}, COPY])
def test_what_came_through_our_exchange_under_another_queue_s_name_is_a_stray(
    key: str, table: dict[str, Any] | None
) -> None:
    assert is_stray(OWN, key, table)
    assert not is_stray(OWN, key, table, queue=key), "there it is right"


def test_a_copy_is_sent_to_one_queue_under_its_name() -> None:
    """A record of a packed message goes straight to its main queue: that one's name says nothing by itself."""
    assert is_stray(OWN, "other", COPY)
    assert not is_stray(OWN, "jobs", COPY)


def test_a_producer_may_use_our_exchange_with_keys_of_his_own() -> None:
    assert not is_stray(OWN, "orders.created", {"tenant": "a"})


@pytest.mark.parametrize("table", [None, {}, COPY, {**COPY, "x-death": [death("other.retry.9", "other.retry.9")]}])
@pytest.mark.parametrize(
    ("exchange", "key"), [("", "jobs"), ("", "renamed"), ("orders", "jobs.dead"), ("dlx2", "x.dead")]
)
def test_what_a_person_or_a_producer_sends_here_by_another_way_is_none(
    exchange: str, key: str, table: dict[str, Any] | None
) -> None:
    assert not is_stray(exchange, key, table)


def test_what_was_in_a_rung_under_another_queue_s_name_is_a_stray() -> None:
    assert not is_stray("", "jobs", {**COPY, "x-death": [death("jobs.retry.2000", "jobs.retry.2000")]})
    assert is_stray("", "jobs", {**COPY, "x-death": [death("jobs.retry.4000", "jobs.retry.2000")]})
    assert is_stray("", "jobs", {"x-death": [death("jobs.retry.4000", "other.dropped")]}), "dropped of another pool"
    twice = [death("jobs", "jobs", exchange=""), death("jobs.retry.4000", b"jobs.retry.2000")]
    assert is_stray(OWN, "jobs.dropped", {**COPY, "x-death": twice}, queue="jobs.dropped")
    assert not is_stray("", "jobs", {**COPY, "x-death": [death("jobs.retry.4000", "jobs.retry.2000", "other")]})


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5) | st.just(OWN),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["queue", "exchange", "routing-keys", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(st.dictionaries(st.sampled_from(["x-death", h.ATTEMPT, "x"]), odd, max_size=3), names, names)
def test_no_header_breaks_it(table: dict[str, Any], exchange: str, key: str) -> None:
    is_stray(exchange, key, table)


@given(names, names)
def test_a_route_is_read_as_it_was_written(exchange: str, key: str) -> None:
    assert read_route(route_of(exchange, key)) == (exchange, key)


@given(st.binary(max_size=20))
def test_a_damaged_route_is_read_as_something(route: bytes) -> None:
    read_route(route)
