"""Opening the results file: the lock, the settings, the hardening. The only `duckdb.connect` of the
project.

While a connection is open, nothing in this process may open and close the file by other means: that would
drop the POSIX lock. So there is no copying and no hashing of it here, and its size comes from `stat`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import duckdb

from rabbitray.actors.errors import StoreOpenError, StoreUnavailableError
from rabbitray.actors.store.config import QueryLimits, StoreConfig

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Connection = duckdb.DuckDBPyConnection

_RESERVED = ("main", "system", "temp")
_UNNAMED = "results"

EPOCH_SQL = "SELECT coalesce(max(epoch), 0) FROM runs"


class StoreLockedError(StoreOpenError):
    """Another process holds the file; `pid` is that process, None when DuckDB does not name it."""

    def __init__(self, message: str, pid: int | None) -> None:
        super().__init__(message)
        self.pid = pid

    def __reduce__(self) -> tuple[type[StoreLockedError], tuple[str, int | None]]:
        return type(self), (str(self), self.pid)


def connect(config: StoreConfig) -> duckdb.DuckDBPyConnection:
    """One attempt to open the file for writing, settings and hardening applied.

    Raises StoreLockedError when another process holds it, StoreOpenError for every other reason.
    """
    options: dict[str, str | bool | int | float | list[str]] = {
        "threads": str(config.threads),
        "memory_limit": f"{config.memory}B",
        "temp_directory": str(config.spill_dir),
        "checkpoint_threshold": "1000TB",  # never by itself: whoever reads must be told first
    }
    try:
        config.path.parent.mkdir(parents=True, exist_ok=True)
        con = duckdb.connect(str(config.path), config=options)
    except (duckdb.Error, OSError) as error:
        raise explain(config.path, error) from error
    con.execute("PRAGMA disable_checkpoint_on_shutdown")  # a file that is ours no more must not lose its log to us
    _harden(con)
    return con


def connect_again(config: StoreConfig, store_id: str) -> duckdb.DuckDBPyConnection:
    """One attempt to open the results file of this id once more; makes no new one. Raises like `connect`."""
    if not config.path.exists():
        raise StoreOpenError(f"{config.path} was moved away or removed: put it back, or start the pool anew without it")
    con = connect(config)
    if store_id_of(con) != store_id:
        con.close()
        raise StoreOpenError(f"{config.path} was replaced by another file: put it back, or start the pool anew")
    return con


def connect_read_only(path: Path, memory: int = 1024**3) -> duckdb.DuckDBPyConnection:
    """Open a file that nothing writes, for reading; a write-ahead log left by a crash is read too.

    Never call it in a process that has the file open for writing. Raises like `connect`.
    """
    if not path.exists():
        raise StoreOpenError(f"there is no results file {path}: run a pool first, or name another file")
    try:
        con = duckdb.connect(str(path), read_only=True, config={"memory_limit": f"{memory}B", "temp_directory": ""})
    except duckdb.Error as error:
        raise explain(path, error) from error
    _harden(con, "disabled_filesystems = 'LocalFileSystem'")  # the file is open: nothing else needs to be
    return con


def connect_snapshot(
    files: AbstractFileSystem, url: str, path: Path, limits: QueryLimits, spill: Path | None = None
) -> duckdb.DuckDBPyConnection:
    """Open the database at `url` of these files for reading, under the name that `path` would give it; `memory` is
    taken, that one is `results`. Takes no lock. What does not fit into the memory goes into the folder `spill`, where
    there is one. Raises duckdb.Error.
    """
    options: dict[str, str | bool | int | float | list[str]] = {
        "threads": str(limits.threads),
        "memory_limit": f"{limits.duckdb}B",
        "temp_directory": str(spill or ""),
        "max_temp_directory_size": f"{limits.spill}B",
    }
    con = duckdb.connect(config=options)
    con.register_filesystem(files)
    name = _database_of(path).replace('"', '""')
    con.execute(f"ATTACH '{url}' AS \"{name}\" (READ_ONLY)")
    con.execute(f'USE "{name}".main')  # with its schema: alone, it may be a schema of DuckDB's own
    _harden(con)
    return con


def _database_of(path: Path) -> str:
    """The name of the database, as DuckDB makes it of a file's."""
    name = path.name.lstrip(".").split(".")[0]
    if name.lower() in _RESERVED:
        return f"{name}_db"
    return _UNNAMED if name.lower() == "memory" else name


def store_id_of(con: duckdb.DuckDBPyConnection) -> str:
    """Which results file this is; "" for none of ours."""
    try:
        found = con.execute("SELECT store_id FROM store").fetchall()
    except duckdb.Error:
        return ""
    return str(found[0][0]) if len(found) == 1 else ""


def size_of(path: Path) -> int:
    """Bytes of the file and its write-ahead log, by `stat` alone."""
    return sum(part.stat().st_size for part in (path, wal_of(path)) if part.exists())


def wal_of(path: Path) -> Path:
    """DuckDB's write-ahead log of this file."""
    return path.with_name(path.name + ".wal")


MOST_TEXT: Final = 2_000
"""Characters of an error's text: DuckDB's may repeat a value of megabytes."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text: DuckDB's go on with what was asked, or with where in it."""
    lines = str(error)[:MOST_TEXT].strip().splitlines()
    return lines[0] if lines else type(error).__name__


def explain(path: Path, error: Exception) -> StoreOpenError:
    """One line for a failed open: what is wrong, where, what to do.

    DuckDB tells these cases apart only in its text, so this is the one place that reads it.
    """
    text = first_line(error)
    if "Could not set lock" in text:
        found = re.search(r"PID (\d+)", text)
        pid = int(found.group(1)) if found else None
        return StoreLockedError(_held(path, pid), pid)
    if "WAL" in text:
        return StoreOpenError(
            f"the write-ahead log {wal_of(path)} is damaged: keep both files, restore from a copy or "
            f"an export; nothing was changed ({text})"
        )
    if "not a valid DuckDB database" in text:
        return StoreOpenError(f"{path} is not a DuckDB file: choose another results file")
    if "version number" in text:
        return StoreOpenError(f"{path} was written by another DuckDB: export it with that version ({text})")
    return StoreOpenError(f"cannot open the results file {path}: {text}")


def _held(path: Path, pid: int | None) -> str:
    if pid and is_store(pid):
        return (
            f"{path} is in use by process {pid}, the store of a running pool: ask that pool with --queue NAME (or "
            "--pool NAME), or end it first with `rabbitray drain --queue NAME`"
        )
    return f"{path} is in use by process {pid or '(unknown)'}: stop it, or choose another file"


def is_store(pid: int, proc: Path = Path("/proc")) -> bool:
    """Whether this process of this machine is a store: Ray writes the class of an actor into its process's title."""
    try:
        title = (proc / str(pid) / "cmdline").read_bytes()
    except OSError:  # it has ended, or runs on another machine
        return False
    return re.match(rb"ray::ResultStore\b", title) is not None


def _harden(con: duckdb.DuckDBPyConnection, *more: str) -> None:
    con.execute("SET GLOBAL TimeZone = 'UTC'")
    for name in (
        "autoinstall_known_extensions",
        "autoload_known_extensions",
        "allow_community_extensions",
        "python_enable_replacements",
        "enable_external_access",
    ):
        con.execute(f"SET {name} = false")
    for setting in more:
        con.execute(f"SET {setting}")
    con.execute("SET lock_configuration = true")


class CommitGuardError(StoreUnavailableError):
    """A transaction did not hold what it was meant to; it was rolled back and nobody is answered."""


def scalar(con: Connection, sql: str) -> int:
    """The one whole number that a statement answers."""
    rows = con.execute(sql).fetchall()  # all of them: a result that is not read to its end blocks the next one
    if len(rows) != 1:
        raise CommitGuardError(f"{len(rows)} answers to: {sql}")
    return int(rows[0][0])
