"""How fast a full queue is worked: N small messages, no-op handler, 2 workers, every result committed before its ack.

Beside it, in turns on the same node: the same messages drained by bare aio-pika and bare aiormq, which do nothing
with them. Ours is timed from `resume` of a warm pool (adaptive window and batch, all settings at their defaults) to
the last ack. Ratios are pair by pair. `packed`: records per second. `cpu_us`: CPU per message of each of our
processes and of the broker while ours runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from bench.node import private_node
from bench.pool import BenchPool, fixed, folder, jobs, local_ray, pool_of, publish, settings
from bench.raw import aio_pika_drain, aiormq_drain, declare, delete, drained
from bench.spread import medians, ratios, rounded, spreads
from bench.usage import CpuMeter, load_average
from rabbitray.cluster.driver.session import Session

WORKERS = 2
SIZES = {"1 KiB": 1024, "10 KiB": 10 * 1024, "100 KiB": 100 * 1024}
Rounds = dict[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many messages; `bodies` for each of SIZES, `packed` records for each packing."""

    rounds: int
    warm_up: int
    messages: int
    bodies: tuple[int, int, int]
    packed: dict[int, int]


FULL = Load(
    rounds=5,
    warm_up=30_000,
    messages=60_000,
    bodies=(40_000, 15_000, 2_000),
    packed={10: 200_000, 50: 300_000, 100: 300_000},
)
QUICK = Load(
    rounds=1,
    warm_up=2_000,
    messages=5_000,
    bodies=(2_000, 1_000, 100),
    packed={10: 10_000, 50: 20_000, 100: 20_000},
)


class Track:
    """The paused pool and the queue of the baselines, on one node."""

    def __init__(self, pool: BenchPool, queue: str, broker_pid: int) -> None:
        self._pool = pool
        self._queue = queue
        self._url = pool.loaded.settings.rabbitmq_url.reveal()
        self._broker = (broker_pid,) if broker_pid else ()
        self.cpu_us: dict[str, list[float]] = defaultdict(list)

    async def ours(self, count: int, *, size: int = 0, packed: int = 0) -> float:
        """Jobs per second of our pool."""
        await self._pool.publish(jobs(count, size=size), packed=packed)
        pids = await self._pool.pids()
        meter = CpuMeter({**pids.groups(), "broker": self._broker})
        took_s = await self._pool.drain_paused(count // packed if packed else count)
        if not size and not packed:
            for name, spent_s in meter.seconds().items():
                self.cpu_us[name].append(spent_s / count * 1e6)
        return count / took_s

    async def pairs(self, rounds: int, count: int, *, size: int = 0) -> Rounds:
        """Ours, aio-pika, aiormq, ours, ...: messages per second and the ratios of each round."""
        found: Rounds = defaultdict(list)
        for _ in range(rounds):
            found["msg_s"].append(await self.ours(count, size=size))
            for name, drain in (("aio_pika", aio_pika_drain), ("aiormq", aiormq_drain)):
                await publish(self._pool.loaded, jobs(count, size=size), queue=self._queue)
                found[f"raw_{name}_msg_s"].append(await drained(drain, self._url, self._queue, count))
        for name in ("aio_pika", "aiormq"):
            found[f"ratio_to_{name}"] = ratios(found["msg_s"], found[f"raw_{name}_msg_s"])
        return found


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """Measures everything on a quorum queue, and the small messages on a classic one too (not in `quick`)."""
    load = QUICK if quick else FULL
    with private_node() as node, local_ray(WORKERS) as session:
        pid = int(getattr(node, "pid", 0))  # a broker that somebody else runs has none
        result = asyncio.run(_measured(node.url, pid, session, load))
        if not quick:
            result["classic"] = asyncio.run(_classic(node.url, pid, session, load))
    return result


async def _measured(url: str, broker_pid: int, session: Session, load: Load) -> dict[str, Any]:  # Any: JSON values
    async with _track(url, broker_pid, session, "quorum") as track:
        await track.pairs(1, load.warm_up)
        track.cpu_us.clear()
        small = await track.pairs(load.rounds, load.messages)
        result = _figures(small) | {"rounds": load.rounds, "cpu_us": medians(track.cpu_us, 1)}
        result["sizes"] = {
            name: await _body(track, load.rounds, count, size)
            for (name, size), count in zip(SIZES.items(), load.bodies, strict=True)
        }
        packed = {
            str(by): [await track.ours(n, packed=by) for _ in range(load.rounds)] for by, n in load.packed.items()
        }
        return result | {"packed": medians(packed), "packed_spread": spreads(packed), "load_average": load_average()}


async def _classic(url: str, broker_pid: int, session: Session, load: Load) -> dict[str, Any]:  # Any: JSON values
    async with _track(url, broker_pid, session, "classic") as track:
        await track.pairs(1, load.warm_up)
        return _figures(await track.pairs(load.rounds, load.messages))


async def _body(track: Track, rounds: int, count: int, size: int) -> dict[str, Any]:  # Any: JSON values
    result = _figures(await track.pairs(rounds, count, size=size))
    return result | {"mb_s": rounded(result["msg_s"] * size / 1e6, 1)}


def _figures(found: Rounds) -> dict[str, Any]:  # Any: JSON values
    rates = {name: values for name, values in found.items() if "ratio" not in name}
    shares = {name: values for name, values in found.items() if "ratio" in name}
    spread = spreads(rates) | spreads(shares, 3)
    return medians(rates) | medians(shares, 3) | {"spread": spread}


@contextlib.asynccontextmanager
async def _track(url: str, broker_pid: int, session: Session, kind: str) -> AsyncIterator[Track]:
    """A paused pool on its own queue and, beside it, a queue of the same type for the baselines."""
    queue = f"bench-raw-{uuid.uuid4().hex[:8]}"
    await declare(url, queue, kind)
    with folder() as place:
        async with pool_of(settings(url, place, {"queue_type": kind} | fixed(WORKERS)), session) as pool:
            await pool.pause()
            yield Track(pool, queue, broker_pid)
    await delete(url, queue)


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """Ours beside the bare clients, which commit nothing."""
    rows = [
        f"Median of {result['rounds']} rounds in turn, least and largest in brackets; 2 workers, no-op handler, "
        "every result committed before its ack.",
        "",
        "| messages | rabbitray /s | bare aio-pika /s | bare aiormq /s | of aio-pika | of aiormq |",
        "|---|---:|---:|---:|---:|---:|",
        _row("small, quorum queue", result),
    ]
    rows += [_row("small, classic queue", result["classic"])] if "classic" in result else []
    rows += [_row(f"{name} ({one['mb_s']} MB/s)", one) for name, one in result["sizes"].items()]
    rows += ["", "| packed by | records/s |", "|---|---:|"]
    rows += [f"| {by} | {rate:,} |" for by, rate in result["packed"].items()]
    rows += ["", "| process | CPU, µs per message |", "|---|---:|"]
    rows += [f"| {name} | {spent} |" for name, spent in result["cpu_us"].items()]
    return "\n".join(rows)


def _row(name: str, one: dict[str, Any]) -> str:  # Any: JSON values
    low, high = one["spread"]["msg_s"]
    cells = (one["raw_aio_pika_msg_s"], one["raw_aiormq_msg_s"])
    bare = " | ".join(f"{rate:,}" for rate in cells)
    return (
        f"| {name} | {one['msg_s']:,} ({low:,} to {high:,}) | {bare} "
        f"| {one['ratio_to_aio_pika']:.2f} | {one['ratio_to_aiormq']:.2f} |"
    )
