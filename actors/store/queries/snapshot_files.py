"""SnapshotFiles: a snapshot as DuckDB reads it, without a lock.

DuckDB's own way to open a file takes a lock, which the store's process has: so it reads through a file system of ours
(fsspec), which knows these two files.
"""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from fsspec import AbstractFileSystem

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.file import wal_of
from rabbitray.actors.store.queries.snapshot import Place, Snapshot

URL: Final = "snapshot://results"
_LOG_URL: Final = f"{URL}.wal"


class SnapshotFiles(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """The two files of a snapshot, for DuckDB: read-only, and nothing beside them. `close` it after the connection.

    Raises QueryError where a file is not the one that was meant.
    """

    protocol = "snapshot"
    cachable = False

    def __init__(self, path: Path, snapshot: Snapshot) -> None:
        super().__init__()
        self._files: dict[str, SnapshotFile] = {}
        try:
            self._files[URL] = _opened(path, snapshot.file)
            if snapshot.log is not None:
                self._files[_LOG_URL] = _opened(wal_of(path), snapshot.log)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of both."""
        for file in self._files.values():
            os.close(file.descriptor)
        self._files.clear()

    def open(self, path: str, mode: str = "rb", **_: Any) -> SnapshotFile:  # Any: fsspec's options
        """One of the two."""
        if mode != "rb" or path not in self._files:
            raise FileNotFoundError(path)
        return self._files[path]

    def exists(self, path: str, **_: Any) -> bool:  # Any: fsspec's options
        """Whether it is one of the two."""
        return path in self._files

    def isfile(self, path: str) -> bool:
        """Whether it is one of the two."""
        return path in self._files

    def size(self, path: str) -> int:
        """Bytes that count."""
        return self.open(path).size

    def modified(self, path: str) -> datetime:
        """The same for all: it never changes."""
        return datetime.fromtimestamp(0, UTC)


class SnapshotFile:
    """One of the two, up to its length; where it stands is each thread's own."""

    closed = False

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.size = size
        self._place = threading.local()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As a file's."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self.size}[whence]
        self._place.at = base + offset
        return base + offset

    def tell(self) -> int:
        """As a file's."""
        return int(getattr(self._place, "at", 0))

    def read(self, size: int = -1) -> bytes:
        """As a file's, which ends at its length."""
        at, left = self.tell(), max(0, self.size - self.tell())
        data = os.pread(self.descriptor, left if size < 0 else min(size, left), at)
        self._place.at = at + len(data)
        return data

    def seekable(self) -> bool:
        """Yes."""
        return True

    def write(self, _: bytes) -> NoReturn:
        """Never."""
        raise PermissionError("a snapshot is only read")

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        """The file stays open for the next who opens it: `SnapshotFiles.close` closes it."""


def _opened(path: Path, place: Place) -> SnapshotFile:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise QueryError(f"{path} cannot be read: {error.strerror}") from error
    seen = os.fstat(descriptor)
    if (seen.st_dev, seen.st_ino) != (place.device, place.inode) or seen.st_size < place.size:
        os.close(descriptor)
        raise QueryError(f"{path} is not the file that the store has open: look at `rabbitray status`")
    return SnapshotFile(descriptor, place.size)
