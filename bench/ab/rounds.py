"""One round of one side. Runs with the side's interpreter, in its worktree, as `python rounds.py NAME`.

The same file runs with both commits, so it uses of the code under test only what `bench/` of both has, and imports it
through `bench` alone. It talks with the driver in lines: `{"ready": true}` once it is warm, `{"begin": window}` and
`{"end": window, "count": messages}` for each window, `{"figures": {...}}` at the end. It goes on when the driver has
answered with an empty line; after `ready` and `end` the other side has its turn first. Whatever else is printed goes to
stderr.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Figures = dict[str, float]

POOL_WORKERS = 2  # as in bench.throughput
WAITING_WORKERS, SLOTS, SERVICE_MS = 4, 32, 300.0  # as in bench.worker, with fewer workers, which start sooner
RATE = 100.0


class Driver:
    """The other end of the pipes, taken away from standard input and output, which children inherit."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(0), "rb", buffering=0)
        self._lines = os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)

    def tell(self, line: dict[str, Any]) -> None:  # Any: JSON values
        """One line to the driver."""
        os.write(self._lines, json.dumps(line).encode() + b"\n")

    def ready(self) -> None:
        """Started and warm: the other side may start."""
        self._mark({"ready": True})

    @contextmanager
    def window(self, name: str, count: int) -> Iterator[None]:
        """A stretch of the round in which `count` messages pass, and whose CPU is counted."""
        self._mark({"begin": name})
        yield
        self._mark({"end": name, "count": count})

    def _mark(self, line: dict[str, Any]) -> None:  # Any: JSON values
        self.tell(line)
        if not self._answers.readline():
            sys.exit("the driver is gone")


def stations(driver: Driver) -> Figures:
    """µs per message in plain code: the mean of several calls, each of which gives the least of its repeats."""
    from bench.stations import costs_us

    number, found = 20_000, []
    costs_us(number // 10)  # warm up
    driver.ready()
    for _ in range(4):
        with driver.window("stations", 3 * number):
            found.append(costs_us(number))
    mean = {name: statistics.fmean(one[name] for one in found) for name in found[0]}
    return {
        "total_us": sum(mean.values()),
        "dequeue_us": mean["dequeue"],
        "decode_and_validate_us": mean["deserialize"] + mean["validate"],
        "ack_us": mean["ack"],
        "metrics_us": mean["metrics"],
    }


def throughput(driver: Driver) -> Figures:
    """Jobs/s of a warm pool that drains a full queue, as in bench.throughput; medians of some drains.

    Each lasts a second or more on a fast machine: its end is seen to 10 ms, and CPU is counted in ticks of 10 ms.
    """
    return _with_pool(driver, POOL_WORKERS, "bench.handlers:noop", _throughput)


async def _throughput(driver: Driver, pool: Any) -> Figures:  # Any: the side's own BenchPool
    await pool.pause()
    await _drain(None, pool, "", 20_000)  # warm up
    driver.ready()
    return {
        "msg_s": await _drains(driver, pool, "empty", 3, 40_000),
        "10_KiB_msg_s": await _warm_drains(driver, pool, "10 KiB", 2, 20_000, size=10 * 1024),
        "100_KiB_msg_s": await _warm_drains(driver, pool, "100 KiB", 2, 3_000, size=100 * 1024),
        "packed_records_s": await _warm_drains(driver, pool, "packed", 2, 150_000, packed=100),
    }


def worker(driver: Driver) -> Figures:
    """Messages/s where each waits 300 ms in its handler."""
    return _with_pool(driver, WAITING_WORKERS, "bench.handlers:wait", _worker)


async def _worker(driver: Driver, pool: Any) -> Figures:  # Any: the side's own BenchPool
    await pool.pause()
    slots = WAITING_WORKERS * SLOTS
    await _drain(None, pool, "", slots, payload=SERVICE_MS)
    driver.ready()
    return {"msg_s": await _drains(driver, pool, "worker", 3, 8 * slots, payload=SERVICE_MS)}


async def _warm_drains(driver: Driver, pool: Any, window: str, times: int, count: int, **job: Any) -> float:
    """As `_drains`, after one of a fifth that is not measured, to which the pool's window and batches adapt."""
    await _drain(None, pool, "", count // 5, **job)
    return await _drains(driver, pool, window, times, count, **job)


async def _drains(driver: Driver, pool: Any, window: str, times: int, count: int, **job: Any) -> float:
    return statistics.median([await _drain(driver, pool, window, count, **job) for _ in range(times)])


async def _drain(driver: Driver | None, pool: Any, window: str, count: int, *, packed: int = 0, **job: Any) -> float:
    """Jobs/s; no figure of it goes to the driver where there is none."""
    from bench.pool import jobs

    await pool.publish(jobs(count, **job), packed=packed)
    messages = count // packed if packed else count
    if driver is None:
        return count / float(await pool.drain_paused(messages))
    with driver.window(window, count):
        return count / float(await pool.drain_paused(messages))


def latency(driver: Driver) -> Figures:
    """ms at 100/s, one worker. To the commit from the result rows, to the ack from the report, in steps of 5 %.

    The report counts from the pool's start, so the ack's p99 is that of its first messages, which find it cold.
    """
    from bench.pool import fixed, folder, local_ray, pool_of, settings

    seconds, times = 3.0, 4
    count = round(RATE * seconds)

    async def measured(loaded: Any, session: Any) -> tuple[Any, dict[str, float]]:  # Any: the side's own types
        async with pool_of(loaded, session) as pool:
            await _paced(pool, 2.0)
            driver.ready()
            for _ in range(times):
                with driver.window("at 100/s", count):
                    await _paced(pool, seconds)
            report = await pool.report()
        return pool, _percentiles(report)

    with folder() as place, local_ray(1) as session:
        pool, ack_ms = asyncio.run(measured(settings(_url(), place, fixed(1)), session))
        row = pool.rows(_LATENCY_SQL.format(count=count * times))[0]
    return {
        "commit_p50_ms": row["p50"],
        "commit_p99_ms": row["p99"],
        "ack_p50_ms": ack_ms["p50"],
        "ack_p99_ms": ack_ms["p99"],
    }


def _percentiles(report: Any) -> dict[str, float]:  # Any: the side's own report, a dict in versions up to 38f370b
    if isinstance(report, dict):
        return dict(report["latency_ms"])
    return {"p50": report.latency_ms.p50, "p99": report.latency_ms.p99}


_LATENCY_SQL = """
SELECT quantile_cont(us, 0.5) / 1000 AS p50, quantile_cont(us, 0.99) / 1000 AS p99 FROM (
    SELECT epoch_us(committed_at) - epoch_us(published_at) AS us FROM results ORDER BY published_at DESC LIMIT {count}
)
"""


async def _paced(pool: Any, seconds: float) -> None:  # Any: the side's own BenchPool
    from bench.paced import publish_at

    before = (await pool.status()).done
    done = await publish_at(pool.loaded, RATE, seconds)
    await pool.acked(before + done.sent - done.failed)


def batch(driver: Driver) -> Figures:
    """ms from publishing to the commit, and CPU of a burst: of 1 and of 100 empty messages, as in bench.batch."""
    from bench.pool import fixed, folder, local_ray, pool_of, settings

    spans: dict[str, tuple[int, int]] = {}

    async def measured(loaded: Any, session: Any) -> Any:  # Any: the side's own types
        async with pool_of(loaded, session) as pool:
            await _bursts(pool, 1, 100, 0.02)
            driver.ready()
            for size, times, every_s in ((1, 300, 0.02), (100, 60, 0.1)):
                began = time.time_ns() // 1_000
                with driver.window(f"{size} in a burst", times):
                    await _bursts(pool, size, times, every_s)
                spans[f"of_{size}_commit_p50_ms"] = began, time.time_ns() // 1_000
        return pool

    with folder() as place, local_ray(1) as session:
        pool = asyncio.run(measured(settings(_url(), place, fixed(1)), session))
        return {name: pool.rows(_BETWEEN_SQL.format(*span))[0]["p50"] for name, span in spans.items()}


_BETWEEN_SQL = """
SELECT quantile_cont(epoch_us(committed_at) - epoch_us(published_at), 0.5) / 1000 AS p50 FROM results
WHERE epoch_us(received_at) BETWEEN {} AND {}
"""


async def _bursts(pool: Any, size: int, times: int, every_s: float) -> None:  # Any: the side's own BenchPool
    from bench.pool import Publisher, compose, jobs

    before = (await pool.status()).done
    async with Publisher(compose.publisher(pool.loaded.settings)) as publisher:
        began = time.perf_counter()
        for number in range(times):
            await asyncio.sleep(max(0.0, began + number * every_s - time.perf_counter()))
            for sent in [publisher.submit(job) for job in jobs(size)]:
                await sent
    await pool.acked(before + size * times)


def publish(driver: Driver) -> Figures:
    """Confirmed publishing to a quorum queue that nobody reads: pipelined, packed by 100, and one at a time."""
    from bench.pool import folder, settings

    with folder() as place:
        return asyncio.run(_publish(driver, settings(_url(), place)))


async def _publish(driver: Driver, loaded: Any) -> Figures:  # Any: the side's own settings
    from bench import raw
    from bench.pool import jobs, publish

    queue = loaded.settings.queue
    await raw.declare(_url(), queue)

    async def rate(window: str, count: int, **how: Any) -> float:  # Any: packed
        ready = list(jobs(count))
        began = time.perf_counter()
        with driver.window(window, count):
            await publish(loaded, ready, **how)
            took_s = time.perf_counter() - began
        return count / took_s

    await publish(loaded, jobs(2_000))  # warm up
    driver.ready()
    figures = {
        "msg_s": statistics.median([await rate("pipelined", 20_000) for _ in range(3)]),
        "packed_records_s": statistics.median([await rate("packed", 100_000, packed=100) for _ in range(3)]),
        "one_at_a_time_ms": await _one_at_a_time(driver, loaded, 2_000),
    }
    await raw.delete(_url(), queue)
    return figures


async def _one_at_a_time(driver: Driver, loaded: Any, count: int) -> float:  # Any: the side's own settings
    from bench.pool import Publisher, compose, jobs

    async with Publisher(compose.publisher(loaded.settings)) as publisher:
        spent_ms = []
        with driver.window("one at a time", count):
            for job in jobs(count):
                began = time.perf_counter()
                await publisher.publish(job)
                spent_ms.append((time.perf_counter() - began) * 1_000)
    return statistics.median(spent_ms)


def _with_pool(driver: Driver, workers: int, handler: str, measure: Any) -> Figures:  # Any: takes driver and BenchPool
    from bench.pool import fixed, folder, local_ray, pool_of, settings

    async def measured(loaded: Any, session: Any) -> Figures:  # Any: the side's own types
        async with pool_of(loaded, session, handler) as pool:
            found: Figures = await measure(driver, pool)
            return found

    with folder() as place, local_ray(workers) as session:
        return asyncio.run(measured(settings(_url(), place, fixed(workers)), session))


def whole(driver: Driver, name: str) -> dict[str, Any]:  # Any: JSON values
    """The JSON of a bench that has no round of its own."""
    with driver.window("whole run", 1):
        command = [sys.executable, "-m", "bench", name, "--quick", "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"python -m bench {name} ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _url() -> str:
    return os.environ["RABBITMQ_URL"]


ROUNDS: dict[str, Callable[[Driver], Figures]] = {
    one.__name__: one for one in (stations, throughput, latency, batch, publish, worker)
}


def main(name: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the driver runs in a shell's background
    driver = Driver()
    figures = ROUNDS[name](driver) if name in ROUNDS else whole(driver, name)
    driver.tell({"figures": figures})


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:] = [one for one in sys.path if Path(one or ".").resolve() != here]  # nothing of the driver's is imported
    main(sys.argv[1])
