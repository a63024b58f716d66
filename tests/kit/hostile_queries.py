"""Statements that make values of gigabytes, and a process that asks them of a store while it commits.

`python -m tests.kit.hostile_queries PATH NAME...` prints one JSON object: for each statement what its asker was told,
by how much the process had grown at most meanwhile and how many rows were committed; and how many were acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from contextlib import suppress
from pathlib import Path

from rabbitray.actors.errors import QueryError, StoreUnavailableError
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.store import Store
from tests.kit.eventually import eventually
from tests.kit.store_rows import rows_of

MIB = 1024 * 1024
TEXT = "'" + "a" * 60_000 + "'"
LINE = "'" + "x" * 1_000 + "'"


def _joined(name: str, times: int) -> str:
    return "||".join([name] * times)


SHAPES = {
    "doubled": "WITH RECURSIVE t(n, s) AS (SELECT 0, 'xxxxxxxx' UNION ALL SELECT n + 1, s || s FROM t WHERE n < 29) "
    "SELECT max(length(s)) FROM t",
    "replaced": f"WITH a AS (SELECT {TEXT} x FROM range(1)) SELECT length(replace(x, 'a', x)) FROM a",
    "list": "SELECT length(list_transform(range(200000000), lambda x: x::varchar || 'abcdefghijklmnop'))",
    "string_agg": f"SELECT length(string_agg(s, '')) FROM (SELECT {LINE} s FROM range(4000000))",
    "list_agg": "SELECT length(list(i)) FROM range(1000000000) r(i)",
    "format": "SELECT length(format('{:>2000000000}', 'x'))",
    "window": "SELECT sum(length(l)) FROM (SELECT list(i) OVER (ORDER BY i) l FROM range(300000) r(i))",
    "json": f"SELECT length(json_group_array(s)) FROM (SELECT {LINE} s FROM range(4000000))",
    "map": "SELECT cardinality(map_from_entries(list_zip(range(30000000), range(30000000))))",
    "rows": f"SELECT replace({LINE}, 'x', {_joined(LINE, 4)} || i) s FROM range(100000) r(i)",
    "repeated": "SELECT length(repeat('x', 4000000000))",
}
"""That take memory without end, by name."""

_BRACKETS = "(SELECT string_agg('[', '') || string_agg(']', '') AS s FROM range(300000))"
_DOUBLED = ", ".join(f"a{n} AS (FROM a{n - 1} UNION ALL FROM a{n - 1})" for n in range(1, 27))
_STRUCTS = ", ".join(f"a{n} AS (SELECT {{x: v, y: v}} AS v FROM a{n - 1})" for n in range(1, 31))

OTHERS = {
    "endless": "SELECT count(*) FROM range(100000000000) r(i) WHERE hash(i) % 7 = 3",
    "levenshtein": "SELECT levenshtein(a, b) FROM (SELECT repeat('a', 524288) a, repeat('b', 524288) b)",
    "parsed": "WITH a AS (" * 14,
    "brackets": "SELECT " + "(" * 3_000,
    "planned": f"WITH a0 AS (SELECT 1 AS v), {_DOUBLED} SELECT count(*) FROM a26",
    "struct": f"WITH a0 AS (SELECT 1 AS v), {_STRUCTS} SELECT v FROM a30",
    "json": f"SELECT json_contains(s, '1') FROM {_BRACKETS}",
    "variant": f"SELECT s::JSON::VARIANT FROM {_BRACKETS}",
    "bound": "SELECT " + " + ".join(["(SELECT 1)"] * 200),
}
"""That ended the store's process, or kept one of its threads beyond any deadline."""

OWN = 256 * MIB
"""Memory of DuckDB in the store of these tests."""


def config_of(path: Path) -> StoreConfig:
    """A store of whose queries each may take 256 MiB."""
    return StoreConfig(path=path, memory=OWN, answer_bytes=64 * MIB, dedupe_capacity=100_000)


def own(name: str) -> int:
    """A figure of this process in bytes: VmHWM (the most that was resident), VmRSS."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1)) * 1024


def forget_peak() -> int:
    """VmHWM begins anew; what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return own("VmRSS")


class Load:
    """Commits that go on, as a router sends them: what the store cannot commit now is sent again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._epoch = 0
        self.acknowledged = 0
        self.refused: list[str] = []

    async def run(self) -> None:
        while not self._epoch:
            with suppress(StoreUnavailableError):
                self._epoch = await self._store.register("load")
        while True:
            keys = [f"k{self.acknowledged + n}" for n in range(200)]
            try:
                answer = await self._store.write(self._epoch, rows_of(keys, results=['"' + "r" * 300 + '"'] * 200))
            except StoreUnavailableError as error:
                self.refused.append(str(error))
                await asyncio.sleep(0.05)  # as a back-off does
                continue
            assert answer.committed + len(answer.duplicates) == 200, answer
            self.acknowledged += 200


async def told(store: Store, sql: str) -> str:
    """What its asker is told; "" where it is answered."""
    try:
        await store.query(sql, max_rows=1_000_000, timeout_s=60)
    except QueryError as error:
        return str(error)
    return ""


async def ask_all(path: Path, names: list[str]) -> dict[str, object]:
    store = Store(config_of(path))
    await store.open()
    load = Load(store)
    task = asyncio.create_task(load.run())
    found = {}
    for name in names:
        before, begun = forget_peak(), load.acknowledged
        said = await told(store, SHAPES[name])
        grown, meanwhile = own("VmHWM") - before, load.acknowledged - begun
        await eventually(lambda begun=load.acknowledged: load.acknowledged > begun, within_s=30)  # type: ignore[misc]
        found[name] = {"said": said, "grown": grown, "committed": meanwhile}
    assert not task.done(), task.exception()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await store.close()
    return {"asked": found, "acknowledged": load.acknowledged, "refused": load.refused}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(ask_all(Path(sys.argv[1]), sys.argv[2:]))) + "\n")
