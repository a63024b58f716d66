"""The tables of the results file, versioned, and their check at start.

`results` has no key index (it slows every commit as it grows); `seq` numbers the rows without gaps in the
order of their commits. `conflicts` holds what came under a key that had a result already, from another message,
`failures` the newest of the runs that failed and were not the last ones of their jobs. All others are append-only.

Who adds a column or a table: raise SCHEMA_VERSION, add the step to `migrations.MIGRATIONS`, and keep a file of the
version before in `tests/kept` (the tests say how).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import duckdb

from rabbitray.actors.errors import StoreOpenError
from rabbitray.actors.store.migrations import MIGRATIONS, Migration, migrate

SCHEMA_VERSION = 3

_TIME = "TIMESTAMP WITH TIME ZONE"

RESULTS = {
    "seq": "BIGINT",
    "key": "VARCHAR",
    "message_id": "VARCHAR",
    "queue": "VARCHAR",
    "message_type": "VARCHAR",
    "user_id": "VARCHAR",
    "status": "VARCHAR",
    "result": "JSON",
    "error": "VARCHAR",
    "error_class": "VARCHAR",
    "category": "VARCHAR",
    "attempts": "INTEGER",
    "published_at": _TIME,
    "received_at": _TIME,
    "started_at": _TIME,
    "finished_at": _TIME,
    "worker": "VARCHAR",
    "batch_id": "VARCHAR",
    "trace_id": "VARCHAR",
    "key_hash": "UBIGINT",
    "payload_hash": "UBIGINT",
    "committed_at": _TIME,
}
CONFLICTS = {
    "key": "VARCHAR",
    "message_id": "VARCHAR",
    "queue": "VARCHAR",
    "message_type": "VARCHAR",
    "user_id": "VARCHAR",
    "result": "JSON",
    "attempts": "INTEGER",
    "published_at": _TIME,
    "received_at": _TIME,
    "finished_at": _TIME,
    "worker": "VARCHAR",
    "batch_id": "VARCHAR",
    "trace_id": "VARCHAR",
    "payload_hash": "UBIGINT",
    "recorded_at": _TIME,
}
DEAD_LETTERS = {
    "key": "VARCHAR",
    "message_id": "VARCHAR",
    "queue": "VARCHAR",
    "message_type": "VARCHAR",
    "error": "VARCHAR",
    "error_class": "VARCHAR",
    "category": "VARCHAR",
    "reason": "VARCHAR",
    "attempts": "INTEGER",
    "first_seen": _TIME,
    "dead_at": _TIME,
    "worker": "VARCHAR",
    "trace_id": "VARCHAR",
    "headers": "JSON",
    "content_type": "VARCHAR",
    "body": "BLOB",
    "raw_properties": "BLOB",
    "id": "VARCHAR",
    "recorded_at": _TIME,
    "content_encoding": "VARCHAR",
    "traceback": "VARCHAR",
    "raised_in": "VARCHAR",
}
FAILURES = {
    "seq": "BIGINT",
    "key": "VARCHAR",
    "message_id": "VARCHAR",
    "queue": "VARCHAR",
    "attempts": "INTEGER",
    "reason": "VARCHAR",
    "category": "VARCHAR",
    "error": "VARCHAR",
    "error_class": "VARCHAR",
    "traceback": "VARCHAR",
    "raised_in": "VARCHAR",
    "worker": "VARCHAR",
    "recorded_at": _TIME,
}
DECISIONS = {
    "decided_at": _TIME,
    "pool": "VARCHAR",
    "inputs": "JSON",
    "current": "INTEGER",
    "wanted": "INTEGER",
    "reason": "VARCHAR",
    "in_effect_at": _TIME,
}
CONTROL = {"version": "BIGINT", "name": "VARCHAR", "value": "JSON", "changed_at": _TIME}
RUNS = {"epoch": "BIGINT", "router": "VARCHAR", "registered_at": _TIME}
STORE = {"schema_version": "INTEGER", "store_id": "VARCHAR", "created_at": _TIME}

TABLES = {
    "results": RESULTS,
    "conflicts": CONFLICTS,
    "dead_letters": DEAD_LETTERS,
    "failures": FAILURES,
    "decisions": DECISIONS,
    "control": CONTROL,
    "runs": RUNS,
    "store": STORE,
}
_NOT_NULL = {"seq", "queue", "status", "schema_version", "store_id", "epoch", "version", "name"}
_FREE_IN = {"conflicts", "dead_letters", "failures", "decisions"}
"""A record of trouble must not be refused for what it lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What a program writes: its version, its tables as {table: {column: type}}, and the steps that lead to them."""

    version: int = SCHEMA_VERSION
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: TABLES)
    migrations: Sequence[Migration] = MIGRATIONS


CURRENT = Schema()


def prepare(con: duckdb.DuckDBPyConnection, where: str, schema: Schema = CURRENT) -> str:
    """Create the tables in a file that has none, or bring them to this version and check them; the file's store id.

    Raises StoreOpenError when the file is of a newer version or of another program, when a table of ours has other
    columns than this version, or when a step fails.
    """
    present = {str(name) for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if not present & schema.tables.keys():
        _create(con, schema)
    elif "store" not in present:
        clash = ", ".join(sorted(present & schema.tables.keys()))
        raise StoreOpenError(f"{where} has a table of another program ({clash}): choose another results file")
    version, store_id = _identity(con, where)
    if version > schema.version:
        raise StoreOpenError(
            f"{where} has schema version {version}, this program writes {schema.version}: "
            "use the program that made it, or choose another results file"
        )
    check = partial(_check, where=where, schema=schema)
    if version < schema.version:
        migrate(con, where, schema.migrations, found=version, wanted=schema.version, check=check)
    check(con)
    return store_id


def version_of(con: duckdb.DuckDBPyConnection) -> int | None:
    """The schema version of an open file; None where no program of ours wrote it."""
    try:
        return _identity(con, "")[0]
    except StoreOpenError:
        return None


def version_note(con: duckdb.DuckDBPyConnection, schema: Schema = CURRENT) -> str:
    """Why a statement may miss a table or a column in an open file of another version; empty for our own version."""
    version = version_of(con)
    if version is None or version == schema.version:
        return ""
    said = f"the file has schema version {version}, this program's is {schema.version}: "
    return said + ("a pool that is run on it brings it there" if version < schema.version else "use a newer program")


def _create(con: duckdb.DuckDBPyConnection, schema: Schema) -> None:
    con.execute("BEGIN")
    for table, columns in schema.tables.items():
        con.execute(f"CREATE TABLE {table} ({_columns(table, columns)})")
    insert = "INSERT INTO store (schema_version, store_id, created_at) VALUES (?, ?, now())"
    con.execute(insert, [schema.version, uuid.uuid4().hex])
    con.execute("COMMIT")
    con.execute("CHECKPOINT")


def _columns(table: str, columns: Mapping[str, str]) -> str:
    strict = table not in _FREE_IN
    return ", ".join(f"{n} {t}{' NOT NULL' if strict and n in _NOT_NULL else ''}" for n, t in columns.items())


def _identity(con: duckdb.DuckDBPyConnection, where: str) -> tuple[int, str]:
    """The file's version and its store id."""
    try:
        found = con.execute("SELECT schema_version, store_id FROM store").fetchall()
    except duckdb.Error as error:
        raise StoreOpenError(f"table store in {where} is of another program: choose another file") from error
    if len(found) != 1 or not isinstance(found[0][0], int) or found[0][0] < 1:
        raise StoreOpenError(f"table store in {where} names no schema version: choose another file")
    return found[0][0], str(found[0][1])


def _check(con: duckdb.DuckDBPyConnection, where: str, schema: Schema) -> None:
    """Each table of ours has exactly our columns, in any order; tables that are not ours do not matter.

    An unknown column is refused although it could be left alone: no version of ours wrote it, so whoever did has
    changed the file by hand, and rows written without it would be wrong for him.
    """
    sql = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal"
    columns: dict[str, dict[str, str]] = {}
    for table, column, kind in con.execute(sql).fetchall():
        columns.setdefault(table, {})[column] = kind
    for table, expected in schema.tables.items():
        if columns.get(table) != expected:
            raise StoreOpenError(f"table {table} in {where} has other columns than this program: choose another file")
