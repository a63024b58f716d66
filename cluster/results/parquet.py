"""Parquet on the caller's side: written under a temporary name, flushed, renamed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from rabbitray.actors.store.dedupe.segment import flush_to_disk


class ParquetFile:
    """A Parquet file that exists under its name only when it is whole: leave the `with` block without an
    error.

    `rows` counts what was written. Raises OSError.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / name
        self.rows = 0
        self._draft = directory / f".{name}.{os.getpid()}.part"
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> ParquetFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def write(self, batch: pa.RecordBatch) -> None:
        """Append one record batch; the first one, which may be empty, fixes the columns."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._draft, batch.schema, compression="zstd")
        if batch.num_rows:
            self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        try:
            self._writer.close()
            if kind is None:
                flush_to_disk(self._draft)
                os.replace(self._draft, self.path)
        finally:
            self._draft.unlink(missing_ok=True)


def write_parquet(batches: Iterable[pa.RecordBatch], directory: Path, name: str) -> Path | None:
    """Write all batches to `directory/name`, atomically; None, and no file, when there was no batch."""
    with ParquetFile(directory, name) as file:
        for batch in batches:
            file.write(batch)
    return file.path if file.path.exists() else None
