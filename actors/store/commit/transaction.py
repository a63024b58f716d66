"""The two permitted ways to commit, neither of which can claim more than it stored.

Rows that go alone are one statement, which commits itself or raises. For more than one there is a transaction: an error
inside of it marks it aborted, and a later COMMIT returns normally and stores nothing. So the number of rows that each
INSERT itself reports is compared with what was meant, and a SELECT of the epoch (which raises in an aborted
transaction) stands before each COMMIT.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import duckdb
import numpy as np
import numpy.ma  # `pa.array` of numpy's imports it when called: 0.1 s of the first commit
import pyarrow as pa

from rabbitray.actors.errors import FencedError
from rabbitray.actors.message.rows import FAILURE_SCHEMA, RESULT_SCHEMA
from rabbitray.actors.store.dedupe.keys import Identities
from rabbitray.actors.store.file import EPOCH_SQL, CommitGuardError, Connection, scalar
from rabbitray.actors.store.schema import CONFLICTS, RESULTS

_BATCH = "rabbitray_batch"
_INCOMING = "rabbitray_incoming"
_TAKEN = [name for name in RESULTS if name != "committed_at"]
_INSERT = "EXECUTE rabbitray_insert"
_PREPARE_INSERT = f"""PREPARE rabbitray_insert AS
INSERT INTO results BY NAME SELECT {", ".join(_TAKEN)}, now() AS committed_at FROM {_INCOMING}"""
_KEPT = [name for name in CONFLICTS if name != "recorded_at"]
_CONFLICTING = "rabbitray_conflicting"
_INSERT_CONFLICTS = f"INSERT INTO conflicts BY NAME SELECT {', '.join(_KEPT)}, now() AS recorded_at FROM {_CONFLICTING}"
_FAILED = "rabbitray_failed"
INSERT_FAILURES = "INSERT INTO failures BY NAME SELECT *, now() AS recorded_at FROM {}"
_INSERT_FAILURES = INSERT_FAILURES.format(_FAILED)
NO_FAILURES = FAILURE_SCHEMA.append(pa.field("seq", pa.int64())).empty_table()
_NO_CONFLICTS = RESULT_SCHEMA.empty_table()
_NO_ROWS = RESULT_SCHEMA.append(pa.field("seq", pa.int64())).append(pa.field("key_hash", pa.uint64())).empty_table()


def transact(con: Connection, insert: Callable[[], int], *, expected: int, epoch: int | None) -> None:
    """Run `insert` and commit, if it inserted `expected` rows and `epoch` is still the current one.

    `epoch` None: the rows belong to no router. Raises FencedError, CommitGuardError or what `insert`
    raised; in each case the transaction is rolled back.
    """
    con.execute("BEGIN")
    try:
        inserted = insert()
        current = scalar(con, EPOCH_SQL)
        if inserted != expected:
            raise CommitGuardError(f"a commit of {expected} rows held {inserted}: rolled back")
        if epoch is not None and current != epoch:
            raise FencedError(f"epoch {epoch} has ended, {current} is current: another router took over")
        con.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(duckdb.Error):  # "no transaction is active" after a failed COMMIT is normal
            con.execute("ROLLBACK")
        raise


class _Handed:
    """What DuckDB scans: the rows of the moment. It asks anew for each statement, and for the columns of the view."""

    def __init__(self, rows: pa.Table) -> None:
        self.rows = rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows as Arrow's C stream."""
        return self.rows.__arrow_c_stream__(requested_schema)


class Incoming:
    """The writing connection, and the rows of one commit after another where its INSERT finds them.

    A view made and dropped for each commit costs 0.7 ms, of 3.3 for a single row.
    """

    def __init__(self, con: Connection) -> None:
        self.con = con
        # without the connection: the two would hold each other, out of Python's sight
        self._handed, self._conflicting, self._failed = _Handed(_NO_ROWS), _Handed(_NO_CONFLICTS), _Handed(NO_FAILURES)
        con.register(_INCOMING, self._handed)
        con.register(_CONFLICTING, self._conflicting)
        con.register(_FAILED, self._failed)
        con.execute(_PREPARE_INSERT)

    def append(
        self,
        rows: pa.Table,
        ids: Identities,
        first_seq: int,
        epoch: int,
        conflicts: pa.Table = _NO_CONFLICTS,
        failures: pa.Table = NO_FAILURES,
    ) -> None:
        """Commit rows of RESULT_SCHEMA, numbered from `first_seq`; `conflicts`, of the same columns, and `failures`
        (FAILURE_SCHEMA and `seq`) into the tables of these names. Raises like `transact`; of rows alone the epoch is
        not looked up: who calls has compared it, and nobody else can write to the file.
        """
        seq = pa.array(np.arange(first_seq, first_seq + rows.num_rows))
        hashes = pa.array(ids.hashes, mask=np.asarray(ids.texts.is_null()))
        self._handed.rows = rows.append_column("seq", seq).append_column("key_hash", hashes)
        self._conflicting.rows, self._failed.rows = conflicts, failures
        others = conflicts.num_rows + failures.num_rows
        try:
            if others:
                transact(self.con, self._insert, expected=rows.num_rows + others, epoch=epoch)
            else:
                self._commit_alone(rows.num_rows)
        finally:
            self._handed.rows, self._conflicting.rows, self._failed.rows = _NO_ROWS, _NO_CONFLICTS, NO_FAILURES

    def _commit_alone(self, expected: int) -> None:
        """In one statement, which takes half of the CPU time of a transaction: 1.4 of 2.7 ms for a row."""
        if (inserted := scalar(self.con, _INSERT)) != expected:
            raise CommitGuardError(f"a commit of {expected} rows held {inserted}: what the file holds is read anew")

    def _insert(self) -> int:
        inserted = scalar(self.con, _INSERT)
        if self._conflicting.rows.num_rows:
            inserted += scalar(self.con, _INSERT_CONFLICTS)
        if self._failed.rows.num_rows:
            inserted += scalar(self.con, _INSERT_FAILURES)
        return inserted


def append(con: Connection, sql: str, batch: pa.Table, *, epoch: int | None) -> None:
    """Commit all rows of `batch` by one `INSERT ... FROM rabbitray_batch`. Raises like `transact`."""
    con.register(_BATCH, batch)
    try:
        transact(con, lambda: scalar(con, sql), expected=batch.num_rows, epoch=epoch)
    finally:
        with contextlib.suppress(duckdb.Error):  # the instance may be dead; the next batch replaces this one
            con.unregister(_BATCH)
