"""BatchRun: one batch while its jobs run."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Sequence

from rabbitray.actors.message.reply import Failure, Progress
from rabbitray.actors.telemetry.span import NO_SPAN, OpenSpan
from rabbitray.actors.worker.batch.unit import Unit


class BatchRun:
    """The state of one batch. `loop` is the worker's event loop; `skipped`: jobs beside `units` that are not run."""

    def __init__(
        self,
        batch_id: str,
        units: Sequence[Unit],
        failures: Sequence[Failure],
        loop: asyncio.AbstractEventLoop,
        skipped: Sequence[Unit] = (),
    ) -> None:
        self.batch_id = batch_id
        self.waiting: deque[Unit] = deque(units)
        self.executing: set[Unit] = set()
        self.finished: deque[Unit] = deque()
        self.unreadable = list(failures)
        self.undecoded: list[int] = []  # messages that there was no time to read: given back with the first part
        self._skipped = list(skipped)
        self.begun = False  # its jobs may run
        self.partial = False  # a part has gone out: finished jobs go out one by one from now on
        self.span: OpenSpan = NO_SPAN
        self._open = Counter(unit.position for unit in units)
        self._left = len(units)
        self.loop = loop
        self._taking = threading.Lock()  # the handler's thread takes jobs while the event loop gives some back
        self._news = asyncio.Event()
        self._stopped: list[Unit] = []  # jobs that are not to begin any more
        self._told: dict[Unit, Progress] = {}  # since the last part
        self._announced = False

    @property
    def open(self) -> int:
        """Jobs whose outcome has not gone out in a part."""
        return self._left

    def next(self) -> Unit | None:
        """Takes the next job to run; None when there is none left."""
        with self._taking:
            if not self.waiting:
                return None
            unit = self.waiting.popleft()
            self.executing.add(unit)
            return unit

    def now_executing(self) -> list[Unit]:
        """The jobs that are in the handler now."""
        with self._taking:
            return list(self.executing)

    def finish(self, unit: Unit) -> None:
        """This job has its outcome; may be called from the handler's thread."""
        with self._taking:
            self.executing.discard(unit)
            self.finished.append(unit)
        if self.partial or not (self.waiting or self.executing):
            self.loop.call_soon_threadsafe(self._news.set)

    def tell(self, unit: Unit, progress: Progress, within_s: float) -> None:
        """This job has told how far it is: that goes out with the next part, `within_s` from now at the latest where a
        part has gone out before. May be called from any thread.
        """
        self._told[unit] = unit.told = progress
        if not self._announced:
            self._announced = True
            self.loop.call_soon_threadsafe(self.loop.call_later, within_s, self._announce)

    def _announce(self) -> None:
        self._announced = False
        if self.partial and self._told:
            self._news.set()

    def take_progress(self) -> list[Progress]:
        """What jobs that run still have told since the last call."""
        if not self._told:
            return []
        told, self._told = self._told, {}
        return [progress for unit, progress in told.items() if not unit.finished_us]

    async def news(self, within_s: float) -> None:
        """Waits until the batch is done (or, after the first part, until any job is), at most `within_s`."""
        if self._left > len(self.finished):
            try:
                async with asyncio.timeout(within_s):
                    await self._news.wait()
            except TimeoutError:
                pass
        self._news.clear()

    def take_finished(self) -> list[Unit]:
        """The jobs finished since the last call."""
        taken: list[Unit] = []
        while self.finished:
            taken.append(self.finished.popleft())
        self._left -= len(taken)
        return taken

    def put_back(self, units: Sequence[Unit]) -> None:
        """These, the last of those that were taken, go out with the next part, which is ready at once."""
        if units:
            self.finished.extendleft(reversed(units))
            self._left += len(units)
            self._news.set()

    def settle_positions(self, units: Sequence[Unit]) -> list[int]:
        """Messages that are complete with these jobs."""
        complete = []
        for unit in units:
            self._open[unit.position] -= 1
            if not self._open[unit.position]:
                complete.append(unit.position)
        return complete

    def take_skipped(self) -> tuple[int, list[int]]:
        """How many jobs were skipped, and the messages that are complete with them; once."""
        skipped, self._skipped = self._skipped, []
        return len(skipped), sorted({unit.position for unit in skipped} - self._open.keys()) if skipped else []

    def stop(self) -> None:
        """No other job of it begins; a part goes out as soon as one ends. May be called from any thread."""
        with self._taking:
            self._stopped += self.waiting
            self.waiting = deque()
            self.partial = True

    def take_stopped(self) -> list[Unit]:
        """The jobs that were stopped and not given back: others of their messages have run."""
        stopped, self._stopped = self._stopped, []
        return stopped

    def take_unstarted(self) -> list[int]:
        """Gives back the messages of which no record was started; they are no longer this batch's."""
        with self._taking:
            waiting = Counter(unit.position for unit in (*self.waiting, *self._stopped))
            whole = {position for position, count in waiting.items() if count == self._open[position]}
            self._left -= sum(waiting[position] for position in whole)
            self.waiting = deque(unit for unit in self.waiting if unit.position not in whole)
            self._stopped = [unit for unit in self._stopped if unit.position not in whole]
        self._skipped = [unit for unit in self._skipped if unit.position not in whole]
        return sorted(whole)
