"""DeadLetterTable: a row for each dead letter whose copy is confirmed."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pyarrow as pa

from rabbitray.actors.backoff import retry_while_unavailable
from rabbitray.actors.errors import ERROR_TEXT_MOST, FencedError
from rabbitray.actors.message.keys import KeyRule
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.settlement.copies import dead_letter_rows
from rabbitray.actors.secret import Redactor

log = logging.getLogger(__name__)


class DeadLetterTable:
    """`append` adds rows (DEAD_LETTER_SCHEMA) to `dead_letters`. `rule`: where the keys of this queue are."""

    def __init__(
        self, queue: str, append: Callable[[pa.Table], Awaitable[None]], redact: Redactor, rule: KeyRule
    ) -> None:
        self._queue = queue
        self._append = append
        self._redact = redact
        self._rule = rule

    def shown(self, failure: Failure) -> Failure:
        """As it is kept for people: a worker has hidden the secrets in its own, not those of the router's."""
        error = self._redact.cut(failure.error, ERROR_TEXT_MOST)
        error_class = self._redact.cut(failure.error_class, ERROR_TEXT_MOST)
        traceback = self._redact(failure.traceback)
        if (error, error_class, traceback) == (failure.error, failure.error_class, failure.traceback):
            return failure
        return msgspec.structs.replace(failure, error=error, error_class=error_class, traceback=traceback)

    async def record(self, dead: Sequence[tuple[Delivery, Failure, str]], worker: str) -> None:
        """Appends a row for each. The copies are confirmed: giving the messages back now would double them."""
        try:
            rows = dead_letter_rows(dead, self._queue, worker, self._rule)
            await retry_while_unavailable(lambda: self._append(rows))
        except FencedError:
            raise
        except Exception:
            log.exception("%d dead letters are in their queue but not in the table dead_letters", len(dead))
