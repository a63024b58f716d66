"""A results file that is open for writing, files beside it that nobody may touch, and whether all are as they were."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.file import connect, wal_of
from rabbitray.actors.store.query import Reading
from rabbitray.actors.store.schema import prepare
from tests.kit.results_file import empty_file
from tests.kit.store_rows import sql_in_a_process

SECRET = "bait-6c1f"
"""Stands in each file of the folder."""

OBJECTS = (
    "CREATE VIEW plain AS SELECT key, upper(status) AS status FROM results",
    "CREATE SCHEMA other",
    "CREATE VIEW other.twice_removed AS FROM plain",
    "CREATE MACRO double(x) AS 2 * x",
    "CREATE MACRO done(s) AS TABLE SELECT * FROM results WHERE status = s",
    "CREATE TABLE computed (a INTEGER, b INTEGER GENERATED ALWAYS AS (a + 1))",
    'CREATE TABLE "odd.csv" (a INTEGER)',
    "CREATE TYPE mood AS ENUM ('a', 'b')",
    "CREATE SEQUENCE numbers",
    "CREATE VIEW bad_view AS SELECT * FROM read_text('{bait}/bait.csv')",
    "CREATE VIEW bad_own AS SELECT size FROM read_blob('{results}')",
    "CREATE VIEW other.bad_behind AS SELECT * FROM main.bad_view",
    "CREATE MACRO bad_macro(x) AS (SELECT max(content) FROM read_text(x))",
    "CREATE MACRO bad_table() AS TABLE FROM '{bait}/bait.csv'",
    "CREATE MACRO other.lower(x) AS nextval('numbers')",
    "CREATE MACRO sign(x) AS nextval('numbers')",
    "CREATE TABLE bad_computed (a INTEGER, b VARCHAR GENERATED ALWAYS AS (json_serialize_plan('SELECT 1')))",
)
"""What a user may have made in his file, with SQL of his own; what is named `bad` does what no query may."""


@dataclass(frozen=True, slots=True)
class Baited:
    """The open file at `results`, a folder `bait`."""

    con: duckdb.DuckDBPyConnection
    reading: Reading
    results: Path
    bait: Path

    def ask(self, sql: str, rows: int = 100) -> pa.Table:
        """Through the door; raises QueryError."""
        return self.reading.table(sql, rows)

    def refusal(self, sql: str) -> str:
        """Why a statement is refused; "" for one that is answered."""
        try:
            self.ask(sql)
        except QueryError as error:
            return str(error)
        return ""

    def state(self) -> dict[str, object]:
        """What differs once anything was written, made, removed, or opened in this process and closed again."""
        files = [self.results, wal_of(self.results), *sorted(self.bait.iterdir())]
        seen: dict[str, object] = {path.name: _signature(path) for path in files}
        return seen | {"beside": sorted(os.listdir(self.results.parent)), "locked": is_locked(self.results)}


@contextmanager
def baited(folder: Path) -> Iterator[Baited]:
    """Opens one in `folder`, its newest rows in the log only."""
    results, bait = folder / "results.duckdb", folder / "bait"
    bait.mkdir()
    empty_file(results)
    _lay_out(bait)
    sql_in_a_process(results, *(sql.format(bait=bait, results=results) for sql in OBJECTS), "CHECKPOINT")
    con = connect(StoreConfig(path=results, temp_dir=folder / "spill"))
    try:
        prepare(con, str(results))
        con.execute("INSERT INTO runs VALUES (1, 'a', now())")
        for path in (results, wal_of(results)):
            os.utime(path, ns=(1, 1))  # by name: whatever writes to it changes this, also within one tick of the clock
        yield Baited(con, Reading(con.cursor()), results, bait)
    finally:
        con.close()


def is_locked(path: Path) -> bool:
    """Whether this process holds the lock that DuckDB took: the system's list says so, and opens nothing."""
    place = f":{path.stat().st_ino}"
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any(line[1] == "POSIX" and line[4] == str(os.getpid()) and line[5].endswith(place) for line in lines)


def _lay_out(bait: Path) -> None:
    (bait / "bait.txt").write_text(SECRET)
    (bait / "bait.csv").write_text(f"a,b\n{SECRET},1\n")
    (bait / "bait.json").write_text(f'{{"a": "{SECRET}"}}')
    with duckdb.connect(str(bait / "bait.db")) as con:
        con.execute(f"CREATE TABLE t AS SELECT '{SECRET}' AS a")
        con.execute(f"COPY t TO '{bait}/bait.parquet'")
    for path in bait.iterdir():
        os.utime(path, ns=(1, 1))


def _signature(path: Path) -> tuple[int, ...] | None:
    if not path.exists():
        return None
    seen = path.stat()
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_nlink
