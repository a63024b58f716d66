"""UncommittedRows: how many bytes of rows wait for the store, and whether a further batch would make them too many.

The window bounds what comes in, by the size of messages. Results may be a thousand times larger: what waits for its
commit is in the workers' memory, in Ray's object store, and spilled from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rabbitray.actors.message.reply import Part

_KEPT: Final = 0.9
"""Of what was seen before, from one part to the next: about ten parts make the mean."""

_LARGEST_WINDOW: Final = 65_535
"""Messages; while rows are so small that all of these would fit, nobody counts the jobs at work."""


class UncommittedRows:
    """`most_bytes` may wait, those counted in that the jobs at work will add at the present mean; `on_room` is called
    when some are gone after a batch was held back. A batch goes out whenever nothing waits and nothing is at work,
    however large its results.
    """

    def __init__(self, most_bytes: int, on_room: Callable[[], None]) -> None:
        self._most = most_bytes
        self._on_room = on_room
        self._held_back = False
        self._seen_bytes = 0.0
        self._seen_jobs = 0.0
        self.size = 0  # bytes

    def add(self, part: Part) -> None:
        """The rows of this part are there."""
        self.size += part.row_bytes
        if part.jobs:
            self._seen_bytes = _KEPT * self._seen_bytes + part.row_bytes
            self._seen_jobs = _KEPT * self._seen_jobs + part.jobs

    def remove(self, part: Part) -> None:
        """They are committed, or nobody waits for that any more."""
        self.size -= part.row_bytes
        if self._held_back:
            self._held_back = False
            self._on_room()

    def have_room(self, at_work: Callable[[], int]) -> bool:
        """Whether a further batch may go out. `at_work`: counts the jobs whose outcome is not known yet."""
        mean = self._seen_bytes / self._seen_jobs if self._seen_jobs else 0.0
        room = self.size < self._most and (
            self.size + mean * _LARGEST_WINDOW <= self._most or self.size + mean * at_work() < self._most
        )
        self._held_back = not room
        return room
