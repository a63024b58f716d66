"""Instance: the one writing connection. It is opened, watched, lost with an error of its own, and opened again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import TypeVar

import duckdb
import pyarrow as pa

from rabbitray.actors.errors import StoreOpenError, StoreUnavailableError
from rabbitray.actors.store import schema
from rabbitray.actors.store.commit.transaction import Incoming
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.file import Connection, connect, connect_again, first_line, wal_of
from rabbitray.actors.store.file_watch import FileWatch
from rabbitray.actors.store.queries.snapshots import Snapshots

log = logging.getLogger(__name__)

T = TypeVar("T")

ROW_ERRORS = (
    duckdb.ConstraintException,
    duckdb.DataError,
    duckdb.InvalidInputException,
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    UnicodeDecodeError,
    KeyError,
)
"""Errors that a row causes; everything else of DuckDB is about the file or the instance."""

CLOSED = "the store is not open: it has been closed, or was not opened yet"


class Instance:
    """One thread only. A failure closes it, and the next use opens it again; after `close` each use is refused: it
    would open the file behind whoever closed it.

    `snapshots` is told what may be read: the file after each commit, and nothing while a checkpoint goes on, which
    DuckDB makes only when told to. `incoming` makes what commits over a connection. `learn` is handed each connection
    that was opened, with the id of the store, before anything else uses it.
    """

    def __init__(
        self,
        config: StoreConfig,
        snapshots: Snapshots,
        incoming: Callable[[Connection], Incoming],
        learn: Callable[[Connection, str], None],
    ) -> None:
        self._config = config
        self._snapshots = snapshots
        self._incoming = incoming
        self._learn = learn
        self._open: Incoming | None = None
        self._watch: FileWatch | None = None  # of the file that it has open
        self._closed = True
        self.store_id = ""
        self.paused = ""
        """Why nothing can be committed, "" when all is well."""

    def open(self) -> None:
        """One attempt; raises StoreOpenError (StoreLockedError when another process holds the file)."""
        self._connect()
        self._closed = False

    def _connect(self) -> None:
        path = self._config.path
        con = connect_again(self._config, self.store_id) if self.store_id else connect(self._config)
        try:
            self.store_id = schema.prepare(con, str(path))
            self._learn(con, self.store_id)
            self._watch = FileWatch(path, wal_of(path))
            self._open = self._incoming(con)
        except BaseException:
            con.close()
            raise
        self._snapshots.publish(self._watch.seen)
        self.paused = ""

    def close(self, finish: Callable[[], None]) -> str:
        """`finish`, checkpoint, let go of the file. Returns why all was left as it is, where the file is damaged or not
        at its path any more; else "".
        """
        self._closed = True
        why = ""
        if self._open is not None and self._watch is not None:
            try:
                self._snapshots.close()
                why = self._watch.why_not(self._checkpoint)
                if not why:
                    finish()
                    _last_checkpoint(self._open.con)
            finally:
                self._open.con.close()
        self._open, self._watch, self.store_id = None, None, ""
        return why

    def use(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on the connection, opened again if need be. Raises ValueError for a row, and
        StoreUnavailableError for a failing instance.
        """
        con = self.ready().con
        try:
            done = work(con)
        except ROW_ERRORS as error:
            raise ValueError(first_line(error)) from error
        except (duckdb.Error, StoreUnavailableError, MemoryError) as error:
            raise self.lose(error) from error
        self.committed()
        return done

    def ready(self) -> Incoming:
        """What commits, opened again if need be; raises StoreUnavailableError."""
        if self._closed:
            raise StoreUnavailableError(CLOSED)
        if self._open is None:
            try:
                self._connect()
            except (StoreOpenError, duckdb.Error, MemoryError) as error:
                self.paused = first_line(error)
                raise StoreUnavailableError(f"the results file cannot be opened again: {self.paused}") from error
        assert self._open is not None
        self.must_be_ours()
        return self._open

    def look(self) -> None:
        """Brings `paused` up to date."""
        if self._open is not None:
            with contextlib.suppress(StoreUnavailableError):  # it is in `paused` then
                self.must_be_ours()

    def committed(self) -> None:
        """After each commit: the file must be ours, what was committed may be read, and a checkpoint is made where one
        is due. It waits for queries as long as the log is not half as long again. Raises StoreUnavailableError.
        """
        self.must_be_ours()
        assert self._watch is not None
        log = self._watch.seen.log_bytes
        waits = log < self._config.latest_checkpoint_bytes
        if log >= self._config.checkpoint_bytes and self._snapshots.withdraw(unless_read=waits):
            try:
                self._checkpoint()
            except (duckdb.Error, MemoryError) as error:
                raise self.lose(error) from error
            self.must_be_ours()

    def _checkpoint(self) -> None:
        assert self._open is not None
        self._snapshots.withdraw()
        self._open.con.execute("CHECKPOINT")

    def must_be_ours(self) -> None:
        """Raises StoreUnavailableError as long as the file is not what DuckDB takes it for; says so once.

        The instance stays open: what was moved away can be put back, and of what was removed the bytes are still there.
        """
        assert self._watch is not None
        why = self._watch.why_not(self._checkpoint)
        if why != self.paused:
            log.error("The store holds: %s", why) if why else log.warning("The store goes on: its file is back")
            self.paused = why
        if why:
            raise StoreUnavailableError(why)
        self._snapshots.publish(self._watch.seen)

    def lose(self, error: Exception) -> StoreUnavailableError:
        """Close the instance, whose state is in doubt; the next use opens it and learns what it holds."""
        reason = first_line(error)
        log.warning("the store pauses: %s", reason)
        self.paused = reason
        lost, self._open = self._open, None
        self._snapshots.close()
        if lost is not None:
            try:
                lost.con.close()
            except (duckdb.Error, MemoryError) as closing:
                log.warning("closing a failed instance: %s", first_line(closing))
        return StoreUnavailableError(f"cannot commit now, nothing was acknowledged: {reason}")


def _last_checkpoint(con: Connection) -> None:
    try:
        con.execute("CHECKPOINT")
    except duckdb.Error as error:
        log.warning("no checkpoint at close, the write-ahead log keeps the rows: %s", first_line(error))
