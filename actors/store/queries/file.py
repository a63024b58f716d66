"""FileQueries: statements of people on a results file that nothing writes, in a process that may be killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from rabbitray.actors.store.config import ANSWER_BYTES, QueryLimits
from rabbitray.actors.store.queries.frames import Question
from rabbitray.actors.store.queries.process import Query, QueryProcess
from rabbitray.actors.store.queries.snapshots import ENDED
from rabbitray.actors.store.query import TABLE_ROWS, as_table

_LIMITS = QueryLimits(duckdb=1024**3)
_START_WITHIN_S = 60.0


class FileQueries:
    """Blocking, one after another; each opens the file for itself. `close` it.

    Raises StoreOpenError (locked: with the holder's pid), QueryError.
    """

    def __init__(self, path: Path, limits: QueryLimits = _LIMITS) -> None:
        self._path = str(path.absolute())
        self._process = QueryProcess(limits)

    def table(self, sql: str, *, max_rows: int, timeout_s: float) -> pa.Table:
        """At most `max_rows` rows within `timeout_s`; `truncated(table)` tells whether more exist."""
        rows = min(TABLE_ROWS, max_rows + 1)
        question = Question(sql=sql, path=self._path, batch_rows=rows, max_rows=max_rows, max_bytes=ANSWER_BYTES)
        query = Query(self._process)
        with _ended_after(_START_WITHIN_S, query):
            query.prepare()
        with _ended_after(timeout_s, query):
            return as_table(query.batches(question))

    def close(self) -> None:
        """Ends the process. May be called twice."""
        self._process.close()


@contextmanager
def _ended_after(seconds: float, query: Query) -> Iterator[None]:
    timer = threading.Timer(seconds, query.end, [ENDED])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
