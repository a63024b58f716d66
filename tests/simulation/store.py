"""SimStore: the results, which survive everything, and the store's process, which does not; StoreLink: the way there.

The semantics of the real store: rows are deduplicated by key, a router whose epoch has ended is fenced, an answer may
be lost although all was committed. Calls run on in the store when the router that asked has died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pyarrow as pa

from rabbitray.actors.errors import FencedError, PayloadLostError, StoreUnavailableError
from rabbitray.actors.message.reply import FailedRun
from rabbitray.actors.store.answers import Answer
from tests.simulation.checker import Checker
from tests.simulation.faults import Faults

T = TypeVar("T")
Rows = list[str]
"""The payload of a part: the keys of its rows."""

COMMIT_S = 0.02


class SimStore:
    """Tables and control values. `down`: why nothing can be stored, "" when all is well."""

    def __init__(self, checker: Checker, faults: Faults) -> None:
        self._checker, self._faults = checker, faults
        self.keys: set[str] = set()
        self.dead_rows: list[str | None] = []
        self.controls: dict[str, object] = {}
        self.epoch = 0
        self.life = 0  # of the process; a call that began in an earlier one is never answered
        self.down = ""

    def restart(self, within_s: float) -> None:
        """The process dies and is there again so many seconds later."""
        self.life += 1
        self.down = "the store is being restarted"
        asyncio.get_running_loop().call_later(within_s, self._up, self.life)

    def _up(self, life: int) -> None:
        if life == self.life:
            self.down = ""

    def stop_committing(self) -> None:
        """The disk is full."""
        self.down = "disk full"

    def commit_again(self) -> None:
        """The disk has room, and the process is there."""
        self.life += 1
        self.down = ""

    async def call(self, place: str, work: Callable[[], T]) -> T:
        """One call: its fault decides whether it is done, how often, and whether the answer comes."""
        fault = self._faults.take(place)
        kind, value = (fault.kind, fault.value) if fault else ("", 0.0)
        life = self.life
        if kind == "bug":
            raise ValueError("a bug in the store")
        if kind == "payload_lost":
            raise PayloadLostError("its node died")
        await asyncio.sleep(COMMIT_S + (value if kind == "slow" else 0.0))
        if kind == "unavailable" or self.down or life != self.life:
            raise StoreUnavailableError(self.down or "the store ended")
        answer = work()
        if kind == "twice":
            answer = work()
        if kind == "restart":
            self.restart(value)
        if kind in ("restart", "answer_lost"):
            raise StoreUnavailableError("the store ended")
        return answer

    def check(self, epoch: int) -> None:
        """Raises FencedError for an epoch that has ended."""
        if epoch != self.epoch:
            raise FencedError(f"epoch {epoch} has ended")

    def commit(self, epoch: int, keys: Rows, failed: tuple[str, ...]) -> Answer:
        """One transaction."""
        self.check(epoch)
        duplicates = []
        for index, key in enumerate(keys):
            if key in self.keys:
                duplicates.append(index)
            else:
                self.keys.add(key)
                self._checker.committed(key)
        already = tuple(key for key in failed if key in self.keys)
        return Answer(committed=len(keys) - len(duplicates), duplicates=tuple(duplicates), already=already)


class StoreLink:
    """What one router process knows of the store, as `StoreClient` has it. `spawn`: runs a call in the store."""

    def __init__(self, store: SimStore, spawn: Callable[[Awaitable[object]], asyncio.Task[object]]) -> None:
        self._store, self._spawn = store, spawn
        self.epoch = 0

    async def write(
        self, payload: Rows, failed_keys: tuple[str, ...], span: str | None, failures: Sequence[FailedRun] = ()
    ) -> Answer:
        store, epoch = self._store, self.epoch
        return await self._call("write", lambda: store.commit(epoch, payload, failed_keys))

    async def record_dead_letters(self, rows: pa.Table) -> None:
        store, epoch = self._store, self.epoch

        def work() -> None:
            store.check(epoch)
            store.dead_rows += rows["key"].to_pylist()

        await self._call("dead_rows", work)

    async def register(self) -> None:
        def work() -> int:
            self._store.epoch += 1
            return self._store.epoch

        self.epoch = await self._call("control", work)

    async def control(self) -> dict[str, object]:
        return await self._call("control", lambda: dict(self._store.controls))

    async def set_control(self, name: str, value: object) -> None:
        await self._call("control", lambda: self._store.controls.update({name: value}))

    async def _call(self, place: str, work: Callable[[], T]) -> T:
        task = self._spawn(self._store.call(place, work))
        return await asyncio.shield(task)  # type: ignore[return-value] # what `work` returns
