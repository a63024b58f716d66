"""Two schema versions after the present one, with their steps, and a process that is killed while it runs them.

Run: python -m tests.kit.later_schema PATH WAY (see `WAYS`). It prints a line each time that it got somewhere.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb

from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.file import connect
from rabbitray.actors.store.migrations import Migration, statements
from rabbitray.actors.store.schema import CURRENT, Schema, prepare

NOW = CURRENT.version

ADDED = {"a_lane": "VARCHAR", "a_count": "INTEGER"}
NOTES = {"note": "VARCHAR", "noted_at": "TIMESTAMP WITH TIME ZONE"}

NEXT_TABLES: Mapping[str, Mapping[str, str]] = {
    **CURRENT.tables,
    "results": {**CURRENT.tables["results"], **ADDED},
    "some_notes": NOTES,
}
AFTER_TABLES: Mapping[str, Mapping[str, str]] = {
    **NEXT_TABLES,
    "dead_letters": {**CURRENT.tables["dead_letters"], "a_lane": "VARCHAR"},
}

ADDS = (
    "ALTER TABLE results ADD COLUMN a_lane VARCHAR",
    "ALTER TABLE results ADD COLUMN a_count INTEGER DEFAULT 7",
    "CREATE TABLE some_notes (note VARCHAR, noted_at TIMESTAMP WITH TIME ZONE)",
    "INSERT INTO some_notes SELECT 'rows: ' || count(*), now() FROM results",
)
FILLS = (
    "ALTER TABLE dead_letters ADD COLUMN a_lane VARCHAR",
    "UPDATE dead_letters SET a_lane = 'lane of ' || key",
    "UPDATE results SET a_lane = 'lane of ' || key, a_count = seq % 1000",
)


def next_schema(
    *, more: tuple[str, ...] = (), run: Callable[[duckdb.DuckDBPyConnection], object] | None = None
) -> Schema:
    """The next version: columns in `results`, a table; `more` SQL, or `run` instead of it all."""
    step = Migration(to=NOW + 1, what="a lane", run=run or statements(*ADDS, *more))
    return Schema(version=NOW + 1, tables=NEXT_TABLES, migrations=(*CURRENT.migrations, step))


def schema_after(run: Callable[[duckdb.DuckDBPyConnection], object] | None = None) -> Schema:
    """The version after the next, whose step rewrites every row."""
    step = Migration(to=NOW + 2, what="lanes filled", run=run or statements(*FILLS))
    return Schema(version=NOW + 2, tables=AFTER_TABLES, migrations=(*next_schema().migrations, step))


def bring(config: StoreConfig, schema: Schema) -> str:
    """Open the file for writing with this schema, and close it; its store id."""
    con = connect(config)
    try:
        return prepare(con, str(config.path), schema)
    finally:
        con.close()


def small(path: Path, memory: int = 128 * 2**20) -> StoreConfig:
    """Segments of 64 rows, and little memory."""
    return StoreConfig(path=path, dedupe_capacity=64 * 64, memory=memory)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _wait_between(con: duckdb.DuckDBPyConnection) -> None:
    _say("in the step")
    sys.stdin.read()


def _wait_half_way(con: duckdb.DuckDBPyConnection) -> None:
    for sql in FILLS:
        con.execute(sql)
    _wait_between(con)


def _rewrite(con: duckdb.DuckDBPyConnection) -> None:
    _say("in the step")
    for sql in FILLS:
        con.execute(sql)


WAYS: dict[str, Callable[[duckdb.DuckDBPyConnection], None]] = {
    "between": _wait_between,
    "half-way": _wait_half_way,
    "at-random": _rewrite,
}


def main(path: Path, way: str) -> None:
    began, before = time.monotonic(), _peak_bytes()
    bring(small(path), schema_after(WAYS[way]))
    _say(f"grew {_peak_bytes() - before} after {time.monotonic() - began:.2f}")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
