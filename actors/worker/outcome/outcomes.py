"""What a call gave becomes what is kept of it, right after the call: the JSON text of a result, or an error's verdict.

The handler may go on changing what it returned, and what it raised: nothing of that is looked at later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from rabbitray.actors.errors import ERROR_TEXT_MOST, InvalidPayloadError
from rabbitray.actors.message.reply import WORKER_BROKEN
from rabbitray.actors.secret import NO_SECRETS, Redactor
from rabbitray.actors.telemetry.rate_limit import LogThrottle
from rabbitray.actors.worker.batch.unit import Failed, Unit
from rabbitray.actors.worker.outcome.error_text import describe
from rabbitray.actors.worker.outcome.result_json import MAX_RESULT_BYTES, UnkeepableError, result_json
from rabbitray.actors.worker.outcome.tracebacks import Tracebacks
from rabbitray.actors.worker.outcome.verdict import Categories, judge

log = logging.getLogger(__name__)

INVALID_TEXT_MOST: Final = 500
"""Characters that are kept of why a payload does not fit, which may quote it."""


class HandlerTimeoutError(TimeoutError):
    """An async call did not end within `handler_timeout_s` and was cancelled; no time-out of the handler's own."""


class Outcomes:
    """Puts the outcome of each call on its unit. Never raises; called in the handler's thread, or in its task.

    `broken` hears, there, of a job that says that its worker is broken.
    """

    def __init__(
        self,
        categories: Categories,
        tracebacks: Tracebacks,
        *,
        max_result_bytes: int = MAX_RESULT_BYTES,
        redact: Redactor = NO_SECRETS,
        broken: Callable[[Failed], None] = lambda _: None,
    ) -> None:
        self._categories = categories
        self._tracebacks = tracebacks
        self._max_bytes = max_result_bytes
        self._redact = redact
        self._broken = broken
        self._too_long = LogThrottle()

    def returned(self, unit: Unit, result: object) -> None:
        """The job returned this."""
        try:
            unit.result = result_json(result, max_bytes=self._max_bytes)
        except UnkeepableError as error:
            unit.failed = Failed(
                verdict="dead",
                reason="result_not_serialisable",
                category="permanent",
                after_s=None,
                error=self._redact.cut(str(error), ERROR_TEXT_MOST).encode("utf-8", "replace").decode(),
                error_class=ValueError.__name__,
                exception=error,
                trace=self._tracebacks.of(error),
            )

    def raised(self, unit: Unit, error: BaseException) -> None:
        """The job raised this, or a batch handler returned it as the job's outcome."""
        judged = judge(error, self._categories)
        if judged.cut and self._too_long.due():
            log.warning("A handler asked for Retry(after_s=...) of more than 30 days: its job waits 30 days")
        name, text = describe(error, self._redact)
        if isinstance(error, InvalidPayloadError):
            name, text = InvalidPayloadError.__name__, text[:INVALID_TEXT_MOST]
            error = InvalidPayloadError(text)  # its span quotes it, too
        timed_out = isinstance(error, HandlerTimeoutError)
        unit.failed = Failed(
            verdict=judged.verdict,
            reason="handler_timeout" if timed_out else judged.reason,
            category=judged.category,
            after_s=judged.after_s,
            error=text,
            error_class="TimeoutError" if timed_out else name,
            exception=error,
            trace=self._tracebacks.of(error),
        )
        if judged.reason == WORKER_BROKEN:
            self._broken(unit.failed)

    def breaks(self, error: BaseException) -> bool:
        """Whether this says that the worker is broken."""
        return judge(error, self._categories).reason == WORKER_BROKEN
