"""Snapshots: what of the results file may be read now. The commit thread says so; the queries ask."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from rabbitray.actors.errors import QueryError, StoreUnavailableError
from rabbitray.actors.store.file_watch import Seen
from rabbitray.actors.store.queries.snapshot import Place, Snapshot

ENDED: Final = "the query was ended: it ran out of its time, or the store closed"
CLOSED: Final = "the results file is closed: try again when the store is open"
CHECKPOINT: Final = "the query was ended for a checkpoint of the results file: ask again, for less at once"


class Endable(Protocol):
    """A query that reads. `why` it was ended, "" as long as it was not."""

    why: str

    def end(self, why: str) -> None:
        """At once, from any thread, without waiting; what it has read by then is thrown away."""
        ...


class Snapshots:
    """Thread-safe. Closed at first.

    A snapshot is true until the next checkpoint begins: whoever begins one calls `withdraw` first, and who reads it
    then is ended. Nobody who writes ever waits here.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = False
        self._serial = 0
        self._current: Snapshot | None = None
        self._reading: set[Endable] = set()

    def publish(self, seen: Seen) -> None:
        """From now on this is read: the file between two transactions."""
        assert seen.file is not None
        file, log = Place(*seen.file), None if seen.log is None else Place(*seen.log)
        with self._changed:
            current, self._open = self._current, True
            if current is None or (current.file, current.log) != (file, log):
                self._serial += 1
                self._current = Snapshot(serial=self._serial, file=file, log=log)
                self._changed.notify_all()

    def withdraw(self, *, unless_read: bool = False) -> bool:
        """Nothing may be read until the next `publish`, which who asks meanwhile waits for. Who reads is ended, or,
        `unless_read`, is left to it, and False is returned.
        """
        with self._changed:
            if unless_read and any(not query.why for query in self._reading):
                return False
            self._end_all(CHECKPOINT)
            return True

    def close(self) -> None:
        """Nothing may be read until the next `publish`: who reads is ended, who asks is told."""
        with self._changed:
            self._open = False
            self._end_all(ENDED)
            self._changed.notify_all()

    @contextmanager
    def read_by(self, query: Endable) -> Iterator[Snapshot]:
        """The newest snapshot, which holds all that was committed before; waits where a checkpoint goes on. Raises
        StoreUnavailableError where the store has no file open, QueryError where the query was ended.
        """
        with self._changed:
            while self._open and self._current is None and not query.why:
                self._changed.wait(0.1)  # for the query's end, too, of which it is not told
            if query.why:
                raise QueryError(query.why)
            if self._current is None:
                raise StoreUnavailableError(CLOSED)
            snapshot = self._current
            self._reading.add(query)
        try:
            yield snapshot
        finally:
            with self._changed:
                self._reading.discard(query)

    def _end_all(self, why: str) -> None:
        self._current = None
        for query in self._reading:
            query.end(why)
