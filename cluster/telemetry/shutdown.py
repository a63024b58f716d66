"""Shutdown: ends a provider of OpenTelemetry in a thread, and never waits for it longer than it may."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Shutdown:
    """One end of a provider. `work` sends what is left; `name` is that of its thread.

    A daemon thread: it holds up neither the process nor an actor.
    """

    def __init__(self, work: Callable[[], object], name: str) -> None:
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._failed = False

    @property
    def begun(self) -> bool:
        """Whether it was asked for."""
        return self._thread.ident is not None

    def within(self, deadline_s: float) -> bool:
        """Begins it, unless that was done before; True once it has ended without an error."""
        if not self.begun:
            self._thread.start()
        self._thread.join(max(0.0, deadline_s))
        return not self._thread.is_alive() and not self._failed

    def _run(self) -> None:
        try:
            self._work()
        except Exception:
            self._failed = True
            log.exception("The end of telemetry failed (%s)", self._thread.name)
