"""When a message of the results file began to wait, as SQL: one that was replayed waits since its replay. Pure.

Of a result, `published_at` says it. A dead letter keeps when its message was first seen; that it was replayed since
stands in its headers, which are a producer's to write: what is no time between the two counts as no replay.
"""

from __future__ import annotations

from typing import Final

from rabbitray.actors.message.headers import REPLAYED

_REPLAYED_MS: Final = f"try_cast(headers->>'{REPLAYED}' AS BIGINT)"
_REPLAYED_AT: Final = (
    f"CASE WHEN {_REPLAYED_MS} BETWEEN epoch_ms(first_seen) AND epoch_ms(dead_at) "
    f"THEN make_timestamptz({_REPLAYED_MS} * 1000) END"
)

RESULT_ARRIVED: Final = "coalesce(published_at, received_at, started_at)"
"""Of a row of `results`."""

DEAD_LETTER_ARRIVED: Final = f"coalesce({_REPLAYED_AT}, first_seen, dead_at, recorded_at)"
"""Of a row of `dead_letters`."""
