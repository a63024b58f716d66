"""Spool: bodies that are too large to be held in memory, each in a file without a name while its message is settled."""

from __future__ import annotations

import gc
import os
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

MOST_BYTES = 512 * 1024 * 1024
"""Of all files of one spool together: RabbitMQ takes no larger message."""

_ON_DISK = Path("/var/tmp")  # what `/tmp` holds is in memory on many systems


class SpooledBody:
    """The body of one message in a file, which is gone as soon as nobody has this object any more.

    An error that ended a connection may keep it until the next collection of garbage.

    `size`: bytes that the message says it has; `error`: why they are not all there. `write` and `read` block: they are
    for a thread.
    """

    def __init__(self, size: int, folder: Path, error: str | None = None) -> None:
        self.size = size
        self.error = error
        self._folder = folder
        self._file: IO[bytes] | None = None

    def write(self, pieces: Sequence[bytes]) -> None:
        """Appends to the file; where that fails, the file is given up and `error` says why."""
        if self.error is not None:
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - as long as this object
            self._file.writelines(pieces)
            self._file.flush()
        except OSError as error:
            self.error = f"its body could not be kept in {self._folder}: {error.strerror or error}"
            self._close()

    def read(self, at: int, count: int) -> bytes:
        """Bytes of the body; raises OSError, also where they are not there."""
        if self.error is not None or self._file is None:
            raise OSError(self.error or "nothing was written")
        if len(found := os.pread(self._file.fileno(), count, at)) != min(count, self.size - at):
            raise OSError(f"its file in {self._folder} ends early")
        return found

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # what it could not write before, it tries again
                file.close()

    def __del__(self) -> None:
        self._close()


class Spool:
    """Makes the files of one queue, in `folder` (default: TMPDIR, else where the system keeps temporary files on disk).

    Beyond `most_bytes` in all a body gets no file, and says so; one alone always does.
    """

    def __init__(self, folder: Path | None = None, *, most_bytes: int = MOST_BYTES) -> None:
        self._folder = folder or _folder()
        self._most_bytes = most_bytes
        self._bodies: weakref.WeakSet[SpooledBody] = weakref.WeakSet()

    @property
    def size(self) -> int:
        """Bytes of all bodies that are kept, or still come."""
        return sum(body.size for body in self._bodies if body.error is None)

    def begin(self, size: int) -> SpooledBody:
        """A body of `size` bytes, of which none is there yet."""
        used = self._used(size)
        full = f"no room for its body of {size:,} bytes: {used:,} of others wait in {self._folder}"
        body = SpooledBody(size, self._folder, full if used and used + size > self._most_bytes else None)
        self._bodies.add(body)
        return body

    def _used(self, wanted: int) -> int:
        """Bytes of the others; before there is no room for `wanted` more, what nobody can reach is let go of."""
        if (used := self.size) and used + wanted > self._most_bytes:
            gc.collect()
            used = self.size
        return used


def _folder() -> Path:
    if os.environ.get("TMPDIR") or not os.access(_ON_DISK, os.W_OK):
        return Path(tempfile.gettempdir())
    return _ON_DISK
