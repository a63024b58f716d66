"""What versions of RabbitMQ do otherwise: the table, what a server says of itself, versions that nobody knows."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from rabbitray.actors.rabbitmq.declare import server_of
from rabbitray.actors.rabbitmq.versions import (
    _TABLE,
    MIB,
    Behaviour,
    Server,
    Version,
    behaviour,
    parse_version,
    read_server,
)


@pytest.mark.parametrize(
    ("text", "version"),
    [("3.10.8", (3, 10, 8)), ("4.0.5", (4, 0, 5)), ("4.1.0-rc.1", (4, 1, 0)), ("", ()), ("devel", ()), ("4", (4,))],
)
def test_versions_are_read(text: str, version: Version) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("told", "version", "shown"),
    [
        ({"product": b"RabbitMQ", "version": b"4.2.1"}, (4, 2, 1), "RabbitMQ 4.2.1"),
        ({"product": "RabbitMQ", "version": "3.13.7"}, (3, 13, 7), "RabbitMQ 3.13.7"),
        ({"product": "LavinMQ", "version": "2.4.0"}, (), "LavinMQ 2.4.0"),
        ({"product": b"RabbitMQ", "version": b"\xff"}, (), "RabbitMQ \ufffd"),
        ({"product": 7, "version": None}, (), "7 None"),
        ({}, (), ""),
    ],
)
def test_a_server_is_what_it_says(told: dict[str, Any], version: Version, shown: str) -> None:
    server = read_server(told)
    assert (server.version, str(server)) == (version, shown)
    transport = SimpleNamespace(connection=SimpleNamespace(server_properties=told))
    connection: Any = SimpleNamespace(transport=transport)
    assert server_of(connection) == server


def test_a_connection_without_a_transport_says_nothing() -> None:
    connection: Any = SimpleNamespace(transport=None)
    assert server_of(connection) == Server()


def test_what_the_tested_versions_do() -> None:
    assert behaviour((3, 10, 8)) == Behaviour(
        delivery_limit=None, unlimited=None, nack_counts=True, quorum_priorities=1
    )
    assert behaviour((4, 0, 5)) == Behaviour(
        delivery_limit=20,
        unlimited=-1,
        timeout_of_queue=True,
        quorum_priorities=2,
        mirrored_classic=False,
        reads_x_death=False,
        default_type_told=True,
        max_message_bytes=16 * MIB,
    )
    assert behaviour((4, 3, 6)) == Behaviour(
        delivery_limit=20,
        unlimited=-1,
        nack_counts=False,
        unlimited_returns_last=False,
        timeout_ends="consumer",
        timeout_on_classic=False,
        timeout_of_queue=True,
        timeout_of_consumer=True,
        quorum_priorities=32,
        look_needs_right=True,
        mirrored_classic=False,
        reads_x_death=False,
        default_type_told=True,
        max_message_bytes=16 * MIB,
        delayed_retry=True,
        keeps_disconnected_s=70.0,
    )


@pytest.mark.parametrize(
    ("version", "needs"),
    [
        ((4, 0, 5), False),
        ((4, 2, 5), False),
        ((4, 2, 6), True),
        ((4, 2, 9), True),
        ((4, 3, 0), False),
        ((4, 3, 1), True),
    ],
)
def test_a_look_needs_a_right_from_two_releases_on(version: Version, needs: bool) -> None:
    assert behaviour(version).look_needs_right is needs


@pytest.mark.parametrize(
    ("version", "like"), [((9, 9), (4, 3, 1)), ((3, 8, 2), (3, 10)), ((), (3, 10)), ((4,), (4, 0))]
)
def test_what_nobody_knows_is_like_the_nearest(version: Version, like: Version) -> None:
    assert behaviour(version) == behaviour(like)


@pytest.mark.parametrize(
    ("server", "says"),
    [
        (read_server({"product": "RabbitMQ", "version": "3.9.27"}), "RabbitMQ 3.9.27: only RabbitMQ from 3.10"),
        (read_server({"product": "LavinMQ", "version": "2.4.0"}), "LavinMQ 2.4.0"),
        (Server(), "of a kind that it does not tell"),
    ],
)
def test_a_broker_that_was_never_tried_is_told(server: Server, says: str) -> None:
    assert says in str(server.note)
    assert read_server({"product": "RabbitMQ", "version": "3.10.0"}).note is None
    assert read_server({"product": "RabbitMQ", "version": "5.0.0"}).note is None


def test_the_table_s_lines_are_in_order_and_each_changes_something() -> None:
    versions = [version for version, _ in _TABLE]
    assert versions == sorted(versions)
    for before, after in pairwise(versions):
        assert behaviour(before) != behaviour(after), after
