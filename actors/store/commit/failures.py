"""The table `failures`: runs that failed and were not the last ones of their jobs. The newest are kept, no more.

They go with the transaction of the results that came with them, or in one of their own. They are for people: whatever
goes wrong with them delays no result and no answer. Once there are half as many again as are to be kept, what is
over is deleted in one statement, which looks at no other table: 0.1 to 0.2 s for 25,000 runs, however many jobs there
ever were.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from rabbitray.actors.message.reply import FailedRun
from rabbitray.actors.message.rows import FAILURE_SCHEMA
from rabbitray.actors.store.answers import Call
from rabbitray.actors.store.commit.transaction import INSERT_FAILURES, NO_FAILURES, append
from rabbitray.actors.store.file import Connection, scalar

RUNS_KEPT: Final = 50_000
RUNS_OF_A_KEY: Final = 3
JOINED_BYTES: Final = 4 * 1024 * 1024
"""So much goes with a transaction of results at most; what is more has its own."""
SLICE_ROWS: Final = 1_000

_TRIM: Final = f"""DELETE FROM failures WHERE seq < ? OR seq IN (
SELECT seq FROM failures WHERE key IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY queue, key ORDER BY seq DESC) > {RUNS_OF_A_KEY})"""


class FailureTable:
    """What waits for the table, and how much is in it. For one commit thread."""

    def __init__(self, kept: int = RUNS_KEPT) -> None:
        self._kept = kept
        self._most = kept + kept // 2
        self._next_seq = 0
        self._rows = 0
        self._apart = False
        self._waiting = NO_FAILURES

    def learn(self, con: Connection) -> None:
        """What the file holds."""
        self._next_seq = scalar(con, "SELECT coalesce(max(seq) + 1, 0) FROM failures")
        self._rows = scalar(con, "SELECT count(*) FROM failures")

    def take(self, calls: Iterable[Call]) -> None:
        """The failed runs of a group of calls; those of the group before have been written, or are given up."""
        self._apart = False
        tables = [table_of(call.failures, call.queue) for call in calls if call.failures]
        if not tables:
            self._waiting = NO_FAILURES
            return
        rows = pa.concat_tables(tables).combine_chunks()
        seq = np.arange(self._next_seq, self._next_seq + rows.num_rows)
        self._next_seq += rows.num_rows
        self._waiting = rows.append_column("seq", pa.array(seq, pa.int64()))

    @property
    def joined(self) -> pa.Table:
        """What goes with the next transaction of results."""
        return NO_FAILURES if self._apart or self._waiting.nbytes > JOINED_BYTES else self._waiting

    def set_apart(self) -> None:
        """A transaction was refused for a row of it: these go alone, so that they cannot be at fault again."""
        self._apart = True

    def written(self, count: int) -> None:
        """So many of those that waited are committed."""
        self._rows += count
        self._waiting = self._waiting.slice(count)

    def write_rest(self, con: Connection, epoch: int) -> None:
        """Commits what still waits, and deletes what is over. Raises as `transact`."""
        while self._waiting.num_rows:
            rows = self._waiting.slice(0, SLICE_ROWS)
            append(con, INSERT_FAILURES.format("rabbitray_batch"), rows, epoch=epoch)
            self.written(rows.num_rows)
        if self._rows > self._most:
            con.execute(_TRIM, [self._next_seq - self._kept])
            self._rows = scalar(con, "SELECT count(*) FROM failures")

    @property
    def has_work(self) -> bool:
        """Whether `write_rest` has something to do."""
        return self._waiting.num_rows > 0 or self._rows > self._most

    def give_up(self) -> int:
        """Drops what waits; how many."""
        count, self._waiting = self._waiting.num_rows, NO_FAILURES
        return int(count)


def table_of(runs: Sequence[FailedRun], queue: str | None) -> pa.Table:
    """One row for each run."""
    columns: dict[str, list[object]] = {
        name: [getattr(run, name) or None for run in runs] for name in FAILURE_SCHEMA.names if name != "queue"
    }
    return pa.table(columns | {"queue": [queue] * len(runs)}, schema=FAILURE_SCHEMA)
