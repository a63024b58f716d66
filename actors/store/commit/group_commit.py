"""Group commit: writes that come while one commit runs share the next one.

A write is committed at once while there is time to commit each one by itself. Once more than one comes in the time
that a commit takes, commits take about a quarter of the time: one starts `PACE` times what the last one took after the
start of that one, at most `interval_s`, or when `rows` have gathered. Under many small batches this bounds the cost of
commits (PostgreSQL's commit_delay with commit_siblings is the same idea), and where commits are quick nobody waits
long. (That the last commit held several calls is no sign that more will come: they may be those that it waited for.)
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.store.answers import Answer, Call

log = logging.getLogger(__name__)

PACE = 4.0
_KEPT = 0.75  # of what was seen before, from one commit to the next: about four commits count

Commit = Callable[[Sequence[Call]], Awaitable[Sequence[Answer | Exception]]]


class GroupCommit:
    """Gathers calls and hands them to `commit`, one group at a time, in the order in which they came."""

    def __init__(self, commit: Commit, *, rows: int, interval_s: float) -> None:
        self._commit = commit
        self._rows = rows
        self._interval_s = interval_s
        self._pending: deque[tuple[Call, asyncio.Future[Answer]]] = deque()
        self._pending_rows = 0
        self._arrived = asyncio.Event()
        self._tasks = BackgroundTasks(log, "The commits of a store have failed")
        self._task: asyncio.Task[None] | None = None
        self._last_start = 0.0
        self._last_took_s = interval_s
        self._alone_s = 0.0  # what the calls of the last commits would have taken, each committed by itself
        self._passed_s = 0.0  # in which time they came

    async def submit(self, call: Call) -> Answer:
        """The answer to this call, once its group is committed; raises what the commit raised for it."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending.append((call, future))
        self._pending_rows += call.rows.num_rows
        self._arrived.set()
        if self._task is None:
            self._task = self._tasks.spawn(self._run(), name="group-commit")
        return await future

    async def drain(self) -> None:
        """Wait until each call that was submitted has its answer."""
        while self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            while self._pending:
                await self._gather()
                await self._commit_group(self._take())
        except BaseException as error:
            self._fail_rest(error)
            raise
        finally:
            self._task = None

    async def _gather(self) -> None:
        """Where there is no time to commit each call by itself, wait for more until the next commit is due."""
        loop = asyncio.get_running_loop()
        due = self._last_start + min(self._interval_s, PACE * self._last_took_s)
        while self._pending_rows < self._rows and self._alone_s > self._passed_s:
            left = due - loop.time()
            if left <= 0:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[tuple[Call, asyncio.Future[Answer]]]:
        group = [self._pending.popleft()]
        rows = group[0][0].rows.num_rows
        while self._pending and rows + self._pending[0][0].rows.num_rows <= self._rows:
            group.append(self._pending.popleft())
            rows += group[-1][0].rows.num_rows
        self._pending_rows -= rows
        return group

    async def _commit_group(self, group: list[tuple[Call, asyncio.Future[Answer]]]) -> None:
        started = asyncio.get_running_loop().time()
        since_last_s, self._last_start = started - self._last_start, started
        answers: Sequence[Answer | BaseException]
        try:
            answers = await self._commit([call for call, _ in group])
        except Exception as error:  # noqa: BLE001 # each caller gets it; the loop must go on for the others
            answers = [error] * len(group)
        except BaseException:
            self._pending.extendleft(reversed(group))
            raise
        self._last_took_s = asyncio.get_running_loop().time() - started
        self._alone_s = _KEPT * self._alone_s + len(group) * self._last_took_s
        self._passed_s = _KEPT * self._passed_s + min(since_last_s, PACE * self._interval_s)
        for (_, future), answer in zip(group, answers, strict=True):
            _settle(future, answer)

    def _fail_rest(self, error: BaseException) -> None:
        """Each caller that waits learns of what ended the commits; the next call begins them anew."""
        while self._pending:
            _settle(self._pending.popleft()[1], error)
        self._pending_rows = 0


def _settle(future: asyncio.Future[Answer], answer: Answer | BaseException) -> None:
    if future.done():
        return
    if isinstance(answer, asyncio.CancelledError):
        future.cancel()
    elif isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)
