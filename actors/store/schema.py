"""The tables of the results file, versioned, and their check at start.

`results` has no key index (it slows every commit as it grows); `seq` numbers the rows without gaps in the
order of their commits. All tables are append-only.
"""

from __future__ import annotations

import uuid

import duckdb

from rabbitray.actors.errors import StoreOpenError

SCHEMA_VERSION = 1

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
    "committed_at": _TIME,
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
    "id": "VARCHAR",
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
    "dead_letters": DEAD_LETTERS,
    "decisions": DECISIONS,
    "control": CONTROL,
    "runs": RUNS,
    "store": STORE,
}
_NOT_NULL = {"seq", "queue", "status", "schema_version", "store_id", "epoch", "version", "name"}
_FREE_IN = {"dead_letters", "decisions"}  # a record of trouble must not be refused for what it lacks


def prepare(con: duckdb.DuckDBPyConnection, where: str) -> str:
    """Create the tables in a file that has none, or check them; returns the file's store id.

    Raises StoreOpenError when a table of ours has other columns or another version.
    """
    present = {str(name) for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if not present & TABLES.keys():
        _create(con)
    elif "store" not in present:
        clash = ", ".join(sorted(present & TABLES.keys()))
        raise StoreOpenError(f"{where} has a table of another program ({clash}): choose another results file")
    return _check(con, where)


def _create(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("BEGIN")
    for table, columns in TABLES.items():
        con.execute(f"CREATE TABLE {table} ({_columns(table, columns)})")
    con.execute("INSERT INTO store VALUES (?, ?, now())", [SCHEMA_VERSION, uuid.uuid4().hex])
    con.execute("COMMIT")
    con.execute("CHECKPOINT")


def _columns(table: str, columns: dict[str, str]) -> str:
    strict = table not in _FREE_IN
    return ", ".join(f"{n} {t}{' NOT NULL' if strict and n in _NOT_NULL else ''}" for n, t in columns.items())


def _check(con: duckdb.DuckDBPyConnection, where: str) -> str:
    try:
        found = con.execute("SELECT schema_version, store_id FROM store").fetchall()
    except duckdb.Error as error:
        raise StoreOpenError(f"table store in {where} is of another program: choose another file") from error
    if len(found) != 1 or found[0][0] != SCHEMA_VERSION:
        version = found[0][0] if found else "none"
        raise StoreOpenError(
            f"{where} has schema version {version}, this program writes {SCHEMA_VERSION}: "
            "use the program that made it, or choose another results file"
        )
    sql = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal"
    columns: dict[str, dict[str, str]] = {}
    for table, column, kind in con.execute(sql).fetchall():
        columns.setdefault(table, {})[column] = kind
    for table, expected in TABLES.items():
        if columns.get(table) != expected:
            raise StoreOpenError(f"table {table} in {where} has other columns than this program: choose another file")
    return str(found[0][1])
