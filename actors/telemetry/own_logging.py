"""OwnLogging: our log lines go on whatever the user's code does to Python's logging.

`logging.config.dictConfig`, `fileConfig` and `basicConfig(force=True)` take all handlers from the root logger, and the
first two disable each logger that is there already: ours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

HANDLER_NAME: Final = "rabbitray"
"""The name of the handler of the root logger that writes our log."""
_OURS: Final = "rabbitray"

log = logging.getLogger(__name__)


class OwnLogging:
    """What our logging is when this is made; nothing where it was not begun. `restore` costs 0.2 us if all is well."""

    def __init__(self) -> None:
        self._root = logging.getLogger()
        self._ours = logging.getLogger(_OURS)
        self._level = self._root.level
        self._handlers = [handler for handler in self._root.handlers if handler.get_name() == HANDLER_NAME]

    def restore(self) -> None:
        """Puts our handler back and enables our loggers, with a line that says so; what others have set up stays."""
        if not self._handlers or (not log.disabled and self._handlers[0] in self._root.handlers):
            return
        for handler in self._handlers:
            if handler not in self._root.handlers:
                self._root.addHandler(handler)
        for name, logger in self._root.manager.loggerDict.items():
            if name.partition(".")[0] == _OURS and isinstance(logger, logging.Logger):
                logger.disabled = False
        if self._root.level != self._level:
            self._ours.setLevel(self._level)
        log.info("The handler's code has set up Python's logging anew: our lines go on beside its own")


@contextmanager
def own_logging() -> Iterator[None]:
    """Around code of the user's that is run once: importing, setting up."""
    logging_of_ours = OwnLogging()
    try:
        yield
    finally:
        logging_of_ours.restore()
