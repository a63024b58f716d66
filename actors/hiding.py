"""A password that a process learns after it began its log: a file of URLs was read again."""

from __future__ import annotations

import logging
from typing import Protocol, runtime_checkable

from rabbitray.actors.secret import Secret


@runtime_checkable
class Hiding(Protocol):
    """A formatter that hides secrets."""

    def hide(self, *secrets: Secret) -> None:
        """These, too, from now on."""


def hide_in_log(*secrets: Secret) -> None:
    """Hides these, too, in the lines of this process's log, where it is ours."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, Hiding):
            handler.formatter.hide(*secrets)
