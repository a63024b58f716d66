"""Names and times of the dead letters in tests, and what is in the dead-letter queue and in a copy."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from pamqp import commands as spec

from rabbitray.actors.message.properties.property_list import Properties, from_raw
from rabbitray.actors.publisher import EncodedMessage, PublisherConfig
from rabbitray.actors.publisher.amqp import frames
from rabbitray.actors.publisher.message_maker import Maker
from rabbitray.cluster.results.dead_letter_selection import DeadLetter

MAKER = Maker(PublisherConfig(url="amqp://nowhere/", queue="jobs"))
DEAD = "jobs.dead"
AT = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


def dead_letter(headers: Mapping[str, Any], **properties: Any) -> DeadLetter:
    """A dead letter with these AMQP properties, message id `m1`."""
    written = spec.Basic.Properties(**{"message_id": "m1", "headers": dict(headers), **properties}).marshal()
    return DeadLetter(b"x", from_raw(written))


def properties_sent(copy: EncodedMessage) -> Properties:
    """The properties of a copy, as its reader finds them."""
    return from_raw(MAKER.message(copy).header[frames.CONTENT_BYTES :])


def headers_sent(copy: EncodedMessage) -> dict[str, Any]:
    """All headers of a copy, as its reader finds them."""
    found = properties_sent(copy)
    assert found.unreadable is None
    return found.headers or {}
