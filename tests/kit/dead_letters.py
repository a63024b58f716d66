"""Names and times of the dead letters in tests, and what is in the dead-letter queue and in a copy."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from pamqp import commands as spec

from rabbitray.actors.message.properties.field_table import read_table
from rabbitray.actors.message.properties.property_list import from_raw
from rabbitray.actors.publisher import EncodedMessage
from rabbitray.actors.publisher.amqp import frames
from rabbitray.cluster.results.dead_letter_selection import DeadLetter

DEAD = "jobs.dead"
AT = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


def dead_letter(headers: Mapping[str, Any], **properties: Any) -> DeadLetter:
    """A dead letter with these AMQP properties, message id `m1`."""
    written = spec.Basic.Properties(**{"message_id": "m1", "headers": dict(headers), **properties}).marshal()
    return DeadLetter(b"x", from_raw(written))


def headers_sent(copy: EncodedMessage) -> dict[str, Any]:
    """All headers of a copy, as its reader finds them."""
    written = frames.table(copy.headers, copy.entries)
    found, why = read_table(written, 4, len(written))
    assert why is None
    return found
