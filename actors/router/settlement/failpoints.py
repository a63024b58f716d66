"""Failpoints: fail on purpose at a named place, for tests of crash windows; nothing when not set.

`after_commit:kill@3` kills this process the third time that it passes `after_commit`. Places: `before_commit`,
`after_commit`, `after_publish`.
"""

from __future__ import annotations

import os
import signal

from rabbitray.actors.errors import ConfigurationError

PLACES = ("before_commit", "after_commit", "after_publish")


class Failpoints:
    """One failpoint, or none (`""`)."""

    def __init__(self, spec: str) -> None:
        place, _, rest = spec.partition(":")
        action, _, count = rest.partition("@")
        if spec and (place not in PLACES or action != "kill"):
            raise ConfigurationError(
                f"failpoint {spec!r}: must be PLACE:kill@COUNT with PLACE one of {', '.join(PLACES)}"
            )
        self._place = place
        self._left = int(count or 1)

    def reach(self, place: str) -> None:
        """Called at each place; kills the process when this is the one and its count is up."""
        if place != self._place:
            return
        self._left -= 1
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
