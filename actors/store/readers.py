"""Readers: the cursors that read while the pool runs, beside the one connection that writes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from rabbitray.actors.errors import QueryError, StoreUnavailableError
from rabbitray.actors.store.config import QueryMemory
from rabbitray.actors.store.file import first_line
from rabbitray.actors.store.guard.catalog import Catalog, read_catalog
from rabbitray.actors.store.guard.parsing import parse
from rabbitray.actors.store.guard.statement import Parse

log = logging.getLogger(__name__)

ENDED = "the query was ended: it ran out of its time, or the store closed"

_INTERRUPT_EVERY_S = 0.02


class Readers:
    """Hands out cursors of the open database, each in a READ ONLY transaction. Thread-safe.

    A failed instance lives on until each of its cursors and Arrow readers is closed, and opening the file again waits
    for that without end: `detach` ends them all, and `ended` says whether it could. `parse`: how statements are parsed;
    `memory`: what they may take.
    """

    def __init__(self, parse: Parse = parse, memory: QueryMemory = QueryMemory()) -> None:  # noqa: B008 # a value
        self.parse = parse
        self.memory = memory
        self._lock = threading.Condition()
        self._root: duckdb.DuckDBPyConnection | None = None
        self._open: set[duckdb.DuckDBPyConnection] = set()
        self._resting: dict[duckdb.DuckDBPyConnection, pa.RecordBatchReader] = {}
        self._catalog: Catalog | None = None

    def attach(self, con: duckdb.DuckDBPyConnection) -> None:
        """Take cursors from this connection's database from now on."""
        with self._lock:
            self._root = con.cursor()
            self._catalog = None

    def detach(self, *, within_s: float = 5.0) -> None:
        """Interrupt what runs, wait for it to let go, close; a reader that does not end in time is left to
        itself.
        """
        deadline = time.monotonic() + within_s
        with self._lock:
            root, self._root = self._root, None
            while not self._open <= self._resting.keys() and time.monotonic() < deadline:
                for cursor in self._open:
                    cursor.interrupt()  # again and again: one that comes before the statement starts is lost
                self._lock.wait(_INTERRUPT_EVERY_S)
            for cursor, reader in self._resting.items():
                _let_go(reader, cursor)
            self._open -= self._resting.keys()
            self._resting.clear()
            if root is not None:
                _let_go(root)

    def ended(self) -> bool:
        """Whether no reader of a detached instance is left."""
        with self._lock:
            return self._root is not None or not self._open

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor of its own inside a READ ONLY transaction; raises StoreUnavailableError while the store
        is closed.
        """
        cursor = self._take()
        try:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            yield cursor
        finally:
            with self._lock:
                self._open.discard(cursor)
                self._resting.pop(cursor, None)
                self._lock.notify_all()
                _let_go(cursor)

    def rest(self, cursor: duckdb.DuckDBPyConnection, reader: pa.RecordBatchReader) -> None:
        """The cursor does nothing while its caller looks at a batch: `detach` may close it."""
        with self._lock:
            self._resting[cursor] = reader
            self._lock.notify_all()

    def resume(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """The cursor is about to work again; raises QueryError when it was closed meanwhile."""
        with self._lock:
            self._resting.pop(cursor, None)
            if cursor not in self._open:
                raise QueryError(ENDED)

    def interrupt(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """End what the cursor does, soon; nothing where it was closed. Under the lock: DuckDB refuses to close a
        connection while another thread interrupts it.
        """
        with self._lock:
            if cursor in self._open:
                cursor.interrupt()

    def catalog(self, cursor: duckdb.DuckDBPyConnection) -> Catalog:
        """What the file holds beside rows: read at the first query, since nothing changes it while the file is open."""
        catalog = self._catalog
        if catalog is None:
            catalog = self._catalog = read_catalog(cursor)
        return catalog

    def _take(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._root is None:
                raise StoreUnavailableError("the results file is closed: try again when the store is open")
            cursor = self._root.cursor()
            self._open.add(cursor)
            return cursor


def _let_go(*open_ones: duckdb.DuckDBPyConnection | pa.RecordBatchReader) -> None:
    """Closes each. One of an instance that failed may refuse that: it ends with the last reference to it."""
    for one in open_ones:
        try:
            one.close()
        except (duckdb.Error, pa.ArrowException, OSError, MemoryError) as error:
            log.warning("a cursor of the results file is let go of without its close: %s", first_line(error))
