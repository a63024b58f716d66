"""Commit rates of the result store: empty and at 5 million rows, with and without duplicates; restart,
memory, reading.

`rows_s` is rows through `Store.write` (16 writers of 250 rows, so that groups form), `by_rows` is
through the blocking core with one transaction of that many rows, at the median commit time (so without
checkpoints). `raw_insert` is DuckDB alone: INSERT ... SELECT from Arrow into the same columns. Duplicates
are drawn uniformly from the whole table, the worst case for a look-up. How its memory grows: `bench memory`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import psutil
import pyarrow as pa

from rabbitray.actors.message.rows import RESULT_SCHEMA
from rabbitray.actors.store.answers import Call
from rabbitray.actors.store.commit.transaction import Incoming
from rabbitray.actors.store.commit.writer import CommitThread
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.dedupe.keys import hash_texts, identities
from rabbitray.actors.store.file import Connection, connect
from rabbitray.actors.store.queries.snapshots import Snapshots
from rabbitray.actors.store.schema import prepare
from rabbitray.actors.store.store import Store

FULL_ROWS = 5_000_000
QUICK_ROWS = 200_000
QUEUE = "jobs"
SIZES = (100, 1_000, 5_000)
REPEATS = 5

T = TypeVar("T")

_NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_FILL = """
INSERT INTO results
SELECT seq, key, key, 'jobs', 'BIRTHDAY', 'user-' || seq % 1000, 'DONE', '{"ok":true,"n":' || seq || '}',
       NULL, NULL, NULL, 1, now(), now(), now(), now(), 'worker-1', 'batch-' || seq // 250, NULL, key_hash,
       payload_hash, now()
FROM rabbitray_fill
"""


def run(*, quick: bool) -> dict[str, object]:
    """Measure; `rows` in the result says how large the table was (5 M, or far fewer with `quick`)."""
    rows = QUICK_ROWS if quick else FULL_ROWS
    budget = 20_000 if quick else 200_000
    with tempfile.TemporaryDirectory() as folder:
        return _measure(Path(folder), rows, budget)


def table(result: dict[str, object]) -> str:
    """The result as Markdown."""
    lines = ["| figure | value |", "|---|---|"]
    for name, value in result.items():
        if isinstance(value, dict):
            lines += [f"| {name} {inner} | {amount} |" for inner, amount in value.items()]
        else:
            lines.append(f"| {name} | {value} |")
    return "\n".join(lines)


def _measure(folder: Path, rows: int, budget: int) -> dict[str, object]:
    empty = StoreConfig(path=folder / "empty.duckdb")
    full = StoreConfig(path=folder / "full.duckdb")
    _fill(full, rows)
    rebuilt_s, _ = _restart(full)
    restart_s, _ = _restart(full)
    rates = _rates(empty, full, budget, rows)
    typical = {name: statistics.median(found) for name, found in rates.items()}
    return {
        "rows": rows,
        "rows_s": {name: round(typical[name]) for name in ("empty", "at_5m", "at_5m_1pct_dup")},
        "ratio_5m_to_empty": _ratio(rates, "at_5m", "empty"),
        "ratio_5m_1pct_dup_to_empty": _ratio(rates, "at_5m_1pct_dup", "empty"),
        "restart_s": round(restart_s, 3),
        "restart_without_side_files_s": round(rebuilt_s, 3),
        "rss_mb": _in_process(_resident, full, rows),
        "dedupe_cost_ratio": _ratio(rates, "empty", "no_dedupe"),
        "single_write_ms": _latency(full),
        "by_rows": _by_size(folder, full, rows, budget),
        "query_cost": _query_cost(full, budget, rows),
    }


def _rates(empty: StoreConfig, full: StoreConfig, budget: int, rows: int) -> dict[str, list[float]]:
    """Rates of each kind, measured in turns, so that a busy neighbour hurts all kinds alike."""
    found: dict[str, list[float]] = {"empty": [], "no_dedupe": [], "at_5m": [], "at_5m_1pct_dup": []}
    for turn in range(REPEATS):
        fresh = replace(empty, path=empty.path.with_name(f"e{turn}.duckdb"))
        plain = replace(empty, path=empty.path.with_name(f"o{turn}.duckdb"), dedupe=False)
        found["empty"].append(_rate(fresh, budget, 0.0, rows))
        found["at_5m"].append(_rate(full, budget, 0.0, rows))
        found["at_5m_1pct_dup"].append(_rate(full, budget, 0.01, rows))
        found["no_dedupe"].append(_rate(plain, budget, 0.0, rows))
    return found


def _ratio(rates: dict[str, list[float]], over: str, under: str) -> float:
    """The median of the ratios of the turns."""
    return round(statistics.median(a / b for a, b in zip(rates[over], rates[under], strict=True)), 3)


def _in_process(work: Callable[[StoreConfig, int], T], config: StoreConfig, rows: int) -> T:
    """What `work` finds in a process that holds nothing but the store."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (config, rows))


def _resident(config: StoreConfig, known: int) -> int:
    """MB of RSS after 100 commits with duplicates."""
    _core_rate(config, 1_000, 100_000, 0.01, known)
    return round(psutil.Process().memory_info().rss / 1e6)


def _fill(config: StoreConfig, rows: int) -> None:
    con = connect(config)
    prepare(con, str(config.path))
    step = 100_000
    for start in range(0, rows, step):
        keys = pa.array([_key(n) for n in range(start, min(rows, start + step))])
        hashes = hash_texts(pa.array([f"{len(QUEUE)}:{QUEUE}:{key}" for key in keys.to_pylist()]))
        payloads = pa.array([_payload(key) for key in keys.to_pylist()], pa.uint64())
        seq = pa.array(range(start, start + len(keys)))
        con.register(
            "rabbitray_fill", pa.table({"seq": seq, "key": keys, "key_hash": hashes, "payload_hash": payloads})
        )
        con.execute(_FILL)
        con.unregister("rabbitray_fill")
    con.execute("CHECKPOINT")
    con.close()


def _key(number: int) -> str:
    """A key that looks random, like a UUID, and can be found again from its number."""
    return f"{(number * 0x9E3779B97F4A7C15F39CC0605CEDC835) & (2**128 - 1):032x}"


def _payload(key: str) -> int:
    """The hash of its payload: one for each key."""
    return int(key[:16], 16)


_fresh = itertools.count(time.time_ns())


def _batches(size: int, budget: int, duplicates: float, known: int) -> Iterator[pa.Table]:
    chance = random.Random(7)
    for _ in range(budget // size):
        dup = int(size * duplicates + chance.random())
        numbers = [chance.randrange(known) for _ in range(dup)] + [next(_fresh) for _ in range(size - dup)]
        yield rows_of([_key(number) for number in numbers])


def rows_of(keys: list[str]) -> pa.Table:
    """Result rows as a worker would send them."""
    count = len(keys)
    columns: dict[str, object] = {name: [None] * count for name in RESULT_SCHEMA.names}
    for name in ("published_at", "received_at", "started_at", "finished_at"):
        columns[name] = [_NOW] * count
    columns.update(key=keys, message_id=keys, queue=[QUEUE] * count, message_type=["BIRTHDAY"] * count)
    columns.update(user_id=["user-1"] * count, status=["DONE"] * count, result=['{"ok":true}'] * count)
    columns.update(
        attempts=[1] * count,
        payload_hash=[_payload(key) for key in keys],
        worker=["worker-1"] * count,
        batch_id=["batch-1"] * count,
    )
    return pa.table(columns, schema=RESULT_SCHEMA)


def _rate(config: StoreConfig, budget: int, duplicates: float, known: int) -> float:
    batches = list(_batches(250, budget, duplicates, known))
    return asyncio.run(_rate_async(config, batches))


async def _rate_async(config: StoreConfig, batches: list[pa.Table]) -> float:
    store = Store(config)
    await store.open()
    epoch = await store.register("bench")
    waiting = iter(batches)
    started = time.perf_counter()

    async def writer() -> None:
        for batch in waiting:
            await store.write(epoch, batch)

    await asyncio.gather(*[writer() for _ in range(16)])
    spent = time.perf_counter() - started
    await store.close()
    return sum(batch.num_rows for batch in batches) / spent


def _restart(config: StoreConfig) -> tuple[float, int]:
    core = CommitThread(config, Snapshots())
    started = time.perf_counter()
    core.open()
    spent = time.perf_counter() - started
    rows = core.stats().rows
    core.close()
    return spent, rows


def _latency(config: StoreConfig) -> dict[str, float]:
    return asyncio.run(_latency_async(config))


async def _latency_async(config: StoreConfig) -> dict[str, float]:
    store = Store(config)
    await store.open()
    epoch = await store.register("bench")
    spent = []
    for batch in _batches(1, 200, 0.0, 1):
        started = time.perf_counter()
        await store.write(epoch, batch)
        spent.append((time.perf_counter() - started) * 1e3)
    await store.close()
    return {"median": round(statistics.median(spent), 2), "p99": round(sorted(spent)[-2], 2)}


def _by_size(folder: Path, full: StoreConfig, rows: int, budget: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for size in SIZES:
        place = folder / f"s{size}.duckdb"
        found[f"raw_insert_{size}"] = round(_raw(replace(full, path=folder / f"r{size}.duckdb"), size, budget))
        found[f"empty_{size}"] = round(_core_rate(replace(full, path=place), size, budget, 0.0, rows))
        found[f"at_rows_{size}"] = round(_core_rate(full, size, budget, 0.0, rows))
        found[f"at_rows_1pct_dup_{size}"] = round(_core_rate(full, size, budget, 0.01, rows))
    return found


def _core_rate(config: StoreConfig, size: int, budget: int, duplicates: float, known: int) -> float:
    core = CommitThread(config, Snapshots())
    core.open()
    epoch = core.register("bench")
    batches = list(_batches(size, min(budget, size * 200), duplicates, known))
    spent = [_timed(lambda batch=batch: core.commit([Call(epoch=epoch, rows=batch)])) for batch in batches]
    core.close()
    return size / statistics.median(spent)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _raw(config: StoreConfig, size: int, budget: int) -> float:
    con: Connection = connect(config)
    prepare(con, str(config.path))
    incoming = Incoming(con)
    batches = [(batch, identities(batch)) for batch in _batches(size, min(budget, size * 200), 0.0, 1)]
    spent = [
        _timed(lambda index=index, batch=batch, ids=ids: incoming.append(batch, ids, index * size, 0))
        for index, (batch, ids) in enumerate(batches)
    ]
    con.close()
    return size / statistics.median(spent)


def _query_cost(config: StoreConfig, budget: int, known: int) -> dict[str, object]:
    sql = "SELECT message_type, count(*), count(DISTINCT user_id) FROM results GROUP BY 1"
    batches = list(_batches(250, budget, 0.0, known))
    rate, asked, ms = asyncio.run(_while_asking(config, batches, sql))
    return {"sql": sql, "rows_s_while_asking": round(rate), "queries": asked, "query_ms": round(ms)}


async def _while_asking(config: StoreConfig, batches: list[pa.Table], sql: str) -> tuple[float, int, float]:
    store = Store(config)
    await store.open()
    epoch = await store.register("bench")
    waiting = iter(batches)
    done = asyncio.Event()
    times: list[float] = []

    async def writer() -> None:
        for batch in waiting:
            await store.write(epoch, batch)

    async def reader() -> None:
        while not done.is_set():
            before = time.perf_counter()
            await store.query(sql)
            times.append((time.perf_counter() - before) * 1e3)

    asking = asyncio.create_task(reader())
    started = time.perf_counter()
    await asyncio.gather(*[writer() for _ in range(16)])
    spent = time.perf_counter() - started
    done.set()
    await asking
    await store.close()
    return sum(batch.num_rows for batch in batches) / spent, len(times), statistics.mean(times)
