"""Single keys from a terminal, without waiting for Enter."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager


class Keys:
    """The keys pressed so far. Belongs to one event loop."""

    def __init__(self) -> None:
        self._pressed: asyncio.Queue[str] = asyncio.Queue()

    def press(self, text: str) -> None:
        """Adds keys; an escape sequence (arrows and their like) means nothing here."""
        if not text.startswith("\x1b"):
            for key in text:
                self._pressed.put_nowait(key)

    async def next(self, within_s: float) -> str | None:
        """The next key, None when there was none in that time."""
        try:
            async with asyncio.timeout(within_s):
                return await self._pressed.get()
        except TimeoutError:
            return None


@contextmanager
def typed() -> Iterator[Keys]:
    """Keys of standard input, read as they are pressed; the terminal is as before afterwards. Ctrl-C stays Ctrl-C."""
    keys, loop, descriptor = Keys(), asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def read() -> None:
        text = os.read(descriptor, 64).decode("utf-8", "replace")
        keys.press(text or "q")  # the terminal is gone

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield keys
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
