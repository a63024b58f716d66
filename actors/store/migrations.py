"""Bringing a results file of an earlier schema version to this one: numbered steps, each in one transaction.

A step and its version number are committed together, so a crash leaves the earlier or the later version, never a
half of one. What is known of DuckDB 2.0, measured on 10 M rows: ADD COLUMN with a constant default takes 0.3 s and
200 bytes of log; a default that is computed (`now()`) writes each row (2 s, 250 MB of log); an UPDATE of every row
takes 30 s and stays within `memory`, since it spills.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import duckdb

from rabbitray.actors.errors import StoreOpenError
from rabbitray.actors.store.file import first_line

log = logging.getLogger(__name__)

Connection = duckdb.DuckDBPyConnection
Check = Callable[[Connection], None]

_ROWS = "SELECT count(*), coalesce(max(seq), -1), coalesce(bit_xor(key_hash), 0), count(key_hash) FROM results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """The step from version `to - 1` to `to`. `what`: for the log, e.g. "a column lane in results".

    `run` gets the writing connection inside an open transaction, which it must neither commit nor end. It may add
    tables and columns (in `results` with a constant default or none) and rewrite others. It may not remove rows of
    `results` or change their seq, queue, key or key_hash: they were acknowledged, and the side files of the dedupe
    hold them. Its SQL is fixed: it names the tables as they were then, never by what `schema` says today.
    """

    to: int
    what: str
    run: Callable[[Connection], object]


def statements(*sql: str) -> Callable[[Connection], None]:
    """A step that is nothing but these statements."""

    def run(con: Connection) -> None:
        for statement in sql:
            con.execute(statement)

    return run


_TO_2 = (
    "ALTER TABLE dead_letters ADD COLUMN raw_properties BLOB",
    "ALTER TABLE results ADD COLUMN payload_hash UBIGINT",
    """CREATE TABLE conflicts (
        key VARCHAR, message_id VARCHAR, queue VARCHAR, message_type VARCHAR, user_id VARCHAR, result JSON,
        attempts INTEGER, published_at TIMESTAMP WITH TIME ZONE, received_at TIMESTAMP WITH TIME ZONE,
        finished_at TIMESTAMP WITH TIME ZONE, worker VARCHAR, batch_id VARCHAR, trace_id VARCHAR,
        payload_hash UBIGINT, recorded_at TIMESTAMP WITH TIME ZONE)""",
)

_TO_3 = (
    "ALTER TABLE dead_letters ADD COLUMN content_encoding VARCHAR",
    "ALTER TABLE dead_letters ADD COLUMN traceback VARCHAR",
    "ALTER TABLE dead_letters ADD COLUMN raised_in VARCHAR",
    """CREATE TABLE failures (
        seq BIGINT, key VARCHAR, message_id VARCHAR, queue VARCHAR, attempts INTEGER, reason VARCHAR, category VARCHAR,
        error VARCHAR, error_class VARCHAR, traceback VARCHAR, raised_in VARCHAR, worker VARCHAR,
        recorded_at TIMESTAMP WITH TIME ZONE)""",
)

MIGRATIONS: tuple[Migration, ...] = (
    Migration(to=2, what="unreadable properties of dead letters, payloads under a known key", run=statements(*_TO_2)),
    Migration(to=3, what="tracebacks and encodings of dead letters, runs that failed", run=statements(*_TO_3)),
)
"""Every step there ever was, in order; the first one goes from version 1 to 2. None is changed once it is released."""


def migrate(
    con: Connection, where: str, migrations: Sequence[Migration], *, found: int, wanted: int, check: Check
) -> None:
    """Run the steps from version `found` to `wanted`, each in a transaction of its own, then a checkpoint.

    `check` raises where the tables are not those of `wanted`; it is asked before the last step is committed. Raises
    StoreOpenError, one line, for a step that is missing or fails; the file then has the version of the last step that
    was committed, and the next open goes on from there.
    """
    steps = {step.to: step for step in migrations}
    missing = [version for version in range(found + 1, wanted + 1) if version not in steps]
    if missing:
        raise StoreOpenError(
            f"{where} has schema version {found}, and this program has no step to {missing[0]}: "
            "use the program that made it, or choose another results file"
        )
    for version in range(found + 1, wanted + 1):
        _step(con, where, steps[version], check if version == wanted else _unchecked)
    try:
        con.execute("CHECKPOINT")
    except duckdb.Error as error:
        log.warning("No checkpoint after the migration, its log is kept: %s", first_line(error))


def _step(con: Connection, where: str, step: Migration, check: Check) -> None:
    began = time.monotonic()
    log.info("%s: schema version %d to %d (%s)", where, step.to - 1, step.to, step.what)
    try:
        _commit(con, step, check)
    except Exception as error:
        _roll_back(con)
        raise StoreOpenError(
            f"{where} stays at schema version {step.to - 1}, the step to {step.to} ({step.what}) failed: "
            f"{first_line(error)}; {_advice(error)}"
        ) from error
    except BaseException:
        _roll_back(con)
        raise
    log.info("%s has schema version %d now, after %.1f s", where, step.to, time.monotonic() - began)


def _commit(con: Connection, step: Migration, check: Check) -> None:
    """One transaction. The reads before COMMIT raise in one that was aborted, which COMMIT itself would not."""
    con.execute("BEGIN")
    transaction, before = _one(con, "SELECT txid_current()"), _one(con, _ROWS)
    step.run(con)
    if _one(con, "SELECT txid_current()") != transaction:
        raise StoreOpenError("it ended its own transaction")
    if _one(con, _ROWS) != before:
        raise StoreOpenError("it removed or renumbered rows of results that were acknowledged")
    con.execute("UPDATE store SET schema_version = ?", [step.to])
    check(con)
    con.execute("COMMIT")
    if _one(con, "SELECT schema_version FROM store") != (step.to,):
        raise StoreOpenError("its commit stored nothing")


def _one(con: Connection, sql: str) -> tuple[object, ...]:
    [row] = con.execute(sql).fetchall()
    return tuple(row)


def _roll_back(con: Connection) -> None:
    try:
        con.execute("ROLLBACK")
    except duckdb.Error as error:  # after a failed COMMIT no transaction is left
        log.debug("Nothing to roll back: %s", first_line(error))


def _advice(error: Exception) -> str:
    if isinstance(error, duckdb.OutOfMemoryException):
        return "give DuckDB more memory (duckdb_memory) or disk, and start again"
    if isinstance(error, duckdb.IOException | duckdb.TransactionException):  # the second: a COMMIT that cannot write
        return "make room on the disk and start again, or use the program that made it"
    return "use the program that made it, and report this"


def _unchecked(con: Connection) -> None:
    """Between two steps: only the newest version's tables are known."""
