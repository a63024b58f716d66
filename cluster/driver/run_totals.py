"""RunTotals: what a whole run came to, over all routers that it had. Pure."""

from __future__ import annotations

from dataclasses import replace

from rabbitray.actors.router.report import RouterReport
from rabbitray.actors.router.status import Counts


class RunTotals:
    """A router counts since its own start. Here the last report of each one that ended is added to the next one's.

    What a router counted after its last look, before it died, is missing: half a second at most.
    """

    def __init__(self) -> None:
        self._ended = Counts()
        self._given_back = 0
        self._last: RouterReport | None = None

    def of_run(self, report: RouterReport) -> RouterReport:
        """The report with the counts of the whole run; reports come in the order in which they were made."""
        last = self._last
        if last is not None and last.pool.epoch != report.pool.epoch:
            self._ended = self._ended.plus(last.counts)
            self._given_back += last.given_back
        self._last = report
        counts = self._ended.plus(report.counts)
        return replace(report, counts=counts, given_back=self._given_back + report.given_back)

    def last(self) -> RouterReport | None:
        """The last report, with the counts of the whole run; None where there was none."""
        return None if self._last is None else self.of_run(self._last)
