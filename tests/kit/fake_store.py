"""FakeStore: the ResultStore's API in memory, with failures that a test can order.

It never touches a file, holds rows as dicts, and does what test_store_contract.py asks of the real one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from rabbitray.actors.errors import FencedError, StoreUnavailableError
from rabbitray.actors.message.key_hash import kind_of
from rabbitray.actors.message.reply import FailedRun
from rabbitray.actors.message.rows import RESULT_SCHEMA
from rabbitray.actors.store.answers import Answer, StoreStats


class FakeStore:
    """`fail_next(error)`: the next write raises it. `hold()` / `release()`: writes wait before their commit.

    `reject_keys`: keys whose rows are answered as rejected. `results`, `dead`, `decisions`, `controls`:
    what was stored.
    `writes`: how many writes were asked; `waiting`: how many are held now.
    """

    def __init__(self) -> None:
        self.results: list[dict[str, object]] = []
        self.dead: list[dict[str, object]] = []
        self.failures: list[FailedRun] = []
        self.decisions: list[dict[str, object]] = []
        self.controls: dict[str, object] = {}
        self.routers: list[str] = []
        self.reject_keys: set[str] = set()
        self.writes = 0
        self.waiting = 0
        self._known: dict[tuple[str, str], dict[str, object]] = {}
        self._failures: deque[Exception] = deque()
        self._gate = asyncio.Event()
        self._gate.set()
        self._is_open = False

    def fail_next(self, error: Exception) -> None:
        """The next write, or the one after those already ordered to fail, raises `error` and stores nothing."""
        self._failures.append(error)

    def hold(self) -> None:
        """Writes wait before their commit until `release`."""
        self._gate.clear()

    def release(self) -> None:
        """Let the held writes go on."""
        self._gate.set()

    async def open(self) -> None:
        self._is_open = True

    async def close(self) -> None:
        self._is_open = False

    async def register(self, router: str) -> int:
        self._must_be_open()
        self.routers.append(router)
        return len(self.routers)

    async def write(
        self,
        epoch: int,
        rows: pa.Table,
        failed_keys: Sequence[str] = (),
        *,
        queue: str | None = None,
        failures: Sequence[FailedRun] = (),
    ) -> Answer:
        self._must_be_open()
        self.writes += 1
        self.waiting += 1
        try:
            await self._gate.wait()
        finally:
            self.waiting -= 1
        if self._failures:
            raise self._failures.popleft()
        self._check(epoch)
        place = queue or _only_queue(rows) if failed_keys else ""
        duplicates, conflicts, rejected = self._store(rows)
        already = tuple(key for key in failed_keys if (place, key) in self._known)
        self.failures += failures
        committed = rows.num_rows - len(duplicates) - len(rejected)
        return Answer(
            committed=committed, duplicates=duplicates, conflicts=conflicts, rejected=rejected, already=already
        )

    async def known(self, queue: str, keys: Sequence[str]) -> dict[int, int]:
        self._must_be_open()
        rows = {at: self._known[queue, key] for at, key in enumerate(keys) if (queue, key) in self._known}
        return {at: _tag(row) for at, row in rows.items()}

    async def record_dead_letters(self, epoch: int, rows: pa.Table) -> None:
        self._must_be_open()
        self._check(epoch)
        self.dead += rows.to_pylist()

    async def decide(self, rows: Sequence[Mapping[str, object]]) -> None:
        self._must_be_open()
        self.decisions += [dict(row) for row in rows]

    async def control(self) -> dict[str, object]:
        self._must_be_open()
        return dict(self.controls)

    async def set_control(self, name: str, value: object) -> None:
        self._must_be_open()
        self.controls[name] = value

    async def stats(self) -> StoreStats:
        self._must_be_open()
        return StoreStats(rows=len(self.results), commits=self.writes)

    def _store(self, rows: pa.Table) -> tuple[tuple[int, ...], int, tuple[tuple[int, str], ...]]:
        duplicates: list[int] = []
        conflicts = 0
        rejected: list[tuple[int, str]] = []
        for index, row in enumerate(rows.cast(RESULT_SCHEMA).to_pylist()):
            pair = (row["queue"], row["key"])
            if row["queue"] is None or row["key"] in self.reject_keys:
                rejected.append((index, "rejected by the test"))
            elif row["key"] is not None and pair in self._known:
                duplicates.append(index)
                conflicts += _are_others(row, self._known[pair])
            else:
                self._known[pair] = row
                self.results.append(row)
        return tuple(duplicates), conflicts, tuple(rejected)

    def _check(self, epoch: int) -> None:
        if epoch != len(self.routers):
            raise FencedError(f"epoch {epoch} has ended: epoch {len(self.routers)} is current")

    def _must_be_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailableError("the store is not open")


def _tag(row: Mapping[str, Any]) -> int:
    return kind_of(row["message_type"], row["user_id"]) ^ (row["payload_hash"] or 0)


def _are_others(row: Mapping[str, object], known: Mapping[str, object]) -> bool:
    """Whether two rows with one key are of different messages."""
    known_payload = known["payload_hash"] is not None
    return any(row[name] != known[name] for name in ("message_type", "user_id", "payload_hash")[: 2 + known_payload])


def _only_queue(rows: pa.Table) -> str:
    queues = set(rows["queue"].to_pylist())
    if len(queues) != 1 or None in queues:
        raise ValueError("name the queue of failed_keys: the rows of this write do not")
    return str(queues.pop())
