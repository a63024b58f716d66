"""Queue arguments and the words of a refusal, without a node."""

from __future__ import annotations

from typing import Any

import pytest

from rabbitray.actors.errors import TopologyError
from rabbitray.actors.rabbitmq.declare import check, parse_difference
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.rabbitmq.versions import Version
from tests.kit.jobs_topology import JOBS


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': "
            "received the value '1' of type 'signedint' but current is the value '2' of type 'signedint'",
            ("x-message-ttl", 2),
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': "
            "received the value 'quorum' of type 'longstr' but current is the value 'classic' of type 'longstr'",
            ("x-queue-type", "classic"),
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-overflow' for queue 'it's' in vhost '/': "
            "received none but current is the value 'reject-publish' of type 'longstr'",
            ("x-overflow", "reject-publish"),
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-overflow' for queue 'q' in vhost '/': "
            "received the value 'x' of type 'longstr' but current is none",
            ("x-overflow", None),
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': "
            "received 'true' but current is 'false'",
            ("durable", "false"),
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': "
            "received '1000' but current is '1500'",
            ("x-message-ttl", 1500),
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-single-active-consumer' for queue 'q' in vhost '/': "
            "received none but current is the value 'true' of type 'bool'",
            ("x-single-active-consumer", True),
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-odd' for queue 'q' in vhost '/': "
            "received none but current is the value '1.5' of type 'float'",
            ("x-odd", "1.5"),
        ),
        ("PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'q' in vhost '/'", None),
        ("something else", None),
    ],
)
def test_the_brokers_words_are_understood(text: str, found: tuple[str, object] | None) -> None:
    assert parse_difference(text) == found


def test_what_is_checked_without_a_broker() -> None:
    assert check("jobs", {}, JOBS.main_arguments(), JOBS) == ()
    with pytest.raises(TopologyError, match="retry rung"):
        check("jobs", {"x-dead-letter-routing-key": "jobs.retry.2000"}, JOBS.main_arguments(), JOBS)


# delivery limits, by the server's version


@pytest.mark.parametrize("version", [(), (3, 10, 8), (3, 13, 7)])
def test_before_rabbitmq_4_no_limit_is_sent(version: Version) -> None:
    assert all("x-delivery-limit" not in arguments for arguments in JOBS.on(version).queues().values())


@pytest.mark.parametrize("version", [(4,), (4, 0, 1), (4, 2, 0), (4, 3, 5), (5, 0)])
def test_from_rabbitmq_4_on_what_has_nothing_behind_it_drops_nothing(version: Version) -> None:
    queues = JOBS.on(version).queues()
    limits = {name: arguments.get("x-delivery-limit") for name, arguments in queues.items()}
    assert (limits.pop(JOBS.dead_queue), limits.pop(JOBS.dropped_queue)) == (-1, -1)
    assert limits.pop(JOBS.queue) == 20, "what cannot be delivered ends in the dropped queue"
    assert limits == {JOBS.rung(1_000): None, JOBS.rung(2_000): None}, "nobody consumes a rung"
    assert queues[JOBS.queue]["x-dead-letter-routing-key"] == JOBS.dropped_queue


@pytest.mark.parametrize("version", [(4, 0, 5), (4, 3, 6)])
@pytest.mark.parametrize("limit", [None, -1, 20])
def test_a_main_queue_made_with_another_limit_is_taken_as_it_is(limit: int | None, version: Version) -> None:
    """By an earlier version of ours, or before the broker became 4.3: no limit, or the default, which is ours."""
    found: dict[str, object] = {} if limit == 20 else {"x-delivery-limit": limit}
    said = looked_at("jobs", found, version)
    assert said == ([f"queue 'jobs' exists with x-delivery-limit={limit}; taken as it is"] if found else [])


def test_a_classic_queue_knows_no_limit() -> None:
    classic = Topology(queue="jobs", queue_type="classic").on((4, 2))
    assert all("x-delivery-limit" not in arguments for arguments in classic.queues().values())


NO_DLX = {"x-dead-letter-exchange": None, "x-dead-letter-routing-key": None}


def looked_at(name: str, found: dict[str, object], version: Version, **changes: Any) -> list[str]:
    """What is said about an existing queue."""
    topology = Topology(queue="jobs", rung_delays_ms=(1_000,), **changes).on(version)
    return [*check(name, found, topology.queues()[name], topology)]


@pytest.mark.parametrize(
    ("found", "version"),
    [
        (NO_DLX | {"x-delivery-limit": None}, (4, 0)),  # the default of 20 holds
        (NO_DLX, (4, 0)),  # and so does one of 20 that it says itself
        (NO_DLX | {"x-delivery-limit": 5}, (4, 0)),
        (NO_DLX | {"x-delivery-limit": 0}, (4, 0)),
        (NO_DLX | {"x-delivery-limit": 5}, (3, 13)),
        (NO_DLX | {"x-delivery-limit": -1}, (3, 13)),  # unlimited only from 4.0 on
        (NO_DLX, (4, 3)),  # our own limit
    ],
)
def test_a_quorum_queue_that_drops_into_nothing_is_refused(found: dict[str, object], version: Version) -> None:
    with pytest.raises(TopologyError, match="no dead-letter exchange"):
        looked_at("jobs", found, version)
    assert any("no dead-letter exchange" in line for line in looked_at("jobs", found, version, take_limited=True))


@pytest.mark.parametrize(
    ("found", "version"),
    [
        (NO_DLX | {"x-delivery-limit": -1}, (4, 0)),  # as asked for: no limit
        (NO_DLX, (3, 13)),
        (NO_DLX | {"x-queue-type": "classic", "x-delivery-limit": None}, (4, 0)),
        ({"x-delivery-limit": 5}, (4, 0)),  # into our dead letters
        ({"x-delivery-limit": None}, (4, 0)),
    ],
)
def test_a_queue_that_loses_nothing_is_taken_as_it_is(found: dict[str, object], version: Version) -> None:
    assert all("no dead-letter exchange" not in line for line in looked_at("jobs", found, version))


def test_a_quorum_queue_is_seen_as_one_where_we_would_make_a_classic_one() -> None:
    found: dict[str, object] = NO_DLX | {"x-queue-type": "quorum"}
    with pytest.raises(TopologyError, match="default x-delivery-limit of 20"):
        looked_at("jobs", found, (4, 1), queue_type="classic")


@pytest.mark.parametrize("name", [JOBS.dead_queue, JOBS.dropped_queue])
def test_dead_letters_made_under_the_default_limit_are_taken_with_a_warning(name: str) -> None:
    (warning,) = looked_at(name, {"x-delivery-limit": None}, (4, 1))
    assert "default x-delivery-limit of 20" in warning
    assert "delete it when it is empty" in warning
    assert looked_at(name, {"x-queue-type": "classic", "x-delivery-limit": None}, (4, 1)) == [
        f"queue '{name}' exists with x-queue-type='classic': weaker than what we would create"
    ]
    with pytest.raises(TopologyError, match="x-delivery-limit=5"):
        looked_at(name, {"x-delivery-limit": 5}, (4, 1))
