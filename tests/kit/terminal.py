"""A command on a pseudo-terminal of 80 x 24: what it shows, and keys for it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator, Mapping

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]")


class Terminal:
    """The outer end of the pseudo-terminal."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self._master = master
        self.process = process
        self._seen = bytearray()
        asyncio.get_running_loop().add_reader(master, self._read)

    @property
    def text(self) -> str:
        """Everything shown so far, without colours and cursor movements."""
        return CONTROL.sub("", self._seen.decode("utf-8", "replace"))

    def press(self, keys: str) -> None:
        """Presses keys."""
        os.write(self._master, keys.encode())

    def close(self) -> None:
        """Ends reading."""
        asyncio.get_running_loop().remove_reader(self._master)

    def _read(self) -> None:
        try:
            self._seen += os.read(self._master, 65_536)
        except OSError:  # the inner end is closed
            self.close()


@contextlib.asynccontextmanager
async def terminal(*arguments: str, environ: Mapping[str, str]) -> AsyncIterator[Terminal]:
    """Runs `rabbitray ARGUMENTS` there; ends it afterwards."""
    master, inner = os.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "rabbitray", *arguments]
    own = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    process = await asyncio.create_subprocess_exec(
        *command, stdin=inner, stdout=inner, stderr=inner, env=dict(os.environ) | dict(environ) | own
    )
    os.close(inner)
    screen = Terminal(master, process)
    try:
        yield screen
    finally:
        screen.close()
        if process.returncode is None:
            process.terminate()
        await process.wait()
        os.close(master)
