"""How fast a full queue is worked by 2 workers, every result committed before its ack; beside baselines, in turns.

`ordinary`: JSON of 2 KiB that the worker decodes into a dataclass and whose handler returns ten fields (`ordinary.py`),
beside a consumer written by hand that does the same (`by_hand_batched.py`), which is one process of its own. `sizes`
and the figures at the top, whose messages are empty: a no-op handler, beside bare aio-pika and bare aiormq, which do
nothing with the messages and drain them in the bench's own process, which has nothing else to do meanwhile. `packed`:
records per second.

Ours is timed from `resume` of a warm pool (adaptive window and batch, all settings at their defaults) to the last ack.
Ratios are round by round. `cpu_us`: CPU per message of each of our processes and of the broker while ours runs.
`load_average`: of the machine when the bench ended, `load_average_before` when it began.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.by_hand_batched import ByHand, by_hand_batched
from bench.node import private_node
from bench.ordinary import BODY_BYTES, CONTENT_TYPE, HANDLER, documents
from bench.pool import (
    NOOP,
    BenchPool,
    fixed,
    folder,
    jobs,
    local_ray,
    pool_of,
    publish,
    publish_encoded,
    settings,
)
from bench.raw import aio_pika_drain, aiormq_drain, declare, delete, drained
from bench.spread import medians, ratios, rounded, spreads
from bench.usage import CpuMeter, load_average
from rabbitray.actors.publisher import EncodedMessage
from rabbitray.cluster.driver.session import Session

WORKERS = 2
SIZES = {"1 KiB": 1024, "10 KiB": 10 * 1024, "100 KiB": 100 * 1024, "1 MiB": 1024 * 1024}
Rounds = dict[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many messages; `bodies` for each of SIZES, `packed` records for each packing.

    `warm_up` and `ordinary_warm_up` are drained first, and not measured.
    """

    rounds: int
    warm_up: int
    messages: int
    ordinary_warm_up: int
    ordinary: int
    bodies: tuple[int, int, int, int]
    packed: Mapping[int, int]


FULL = Load(
    rounds=5,
    warm_up=30_000,
    messages=60_000,
    ordinary_warm_up=10_000,
    ordinary=20_000,
    bodies=(40_000, 15_000, 2_000, 300),
    packed={10: 200_000, 50: 300_000, 100: 300_000},
)
QUICK = Load(
    rounds=1,
    warm_up=2_000,
    messages=5_000,
    ordinary_warm_up=1_000,
    ordinary=2_000,
    bodies=(2_000, 1_000, 100, 30),
    packed={10: 10_000, 50: 20_000, 100: 20_000},
)


class Track:
    """A paused pool on its own queue and a queue of the same type for the baselines, on one node."""

    def __init__(self, pool: BenchPool, queue: str, place: Path, broker_pid: int) -> None:
        self._pool = pool
        self._queue = queue
        self._place = place
        self._url = pool.loaded.settings.rabbitmq_url.reveal()
        self._broker = (broker_pid,) if broker_pid else ()
        self._cpu_us: Rounds = defaultdict(list)

    async def ours(self, count: int, *, size: int = 0, packed: int = 0) -> float:
        """Jobs per second of our pool."""
        await self._pool.publish(jobs(count, size=size), packed=packed)
        return await self._drained(count, count // packed if packed else count)

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

    async def ordinary_pairs(self, hand: ByHand, rounds: int, count: int) -> Rounds:
        """Ours, by hand, ours, ... with ordinary messages, likewise."""
        found: Rounds = defaultdict(list)
        for _ in range(rounds):
            await publish_encoded(self._pool.loaded, _ordinary_messages(self._pool.loaded.settings.queue, count))
            found["msg_s"].append(await self._drained(count, count))
            await publish_encoded(self._pool.loaded, _ordinary_messages(self._queue, count))
            found["by_hand_msg_s"].append(await self._drained_by_hand(hand, count))
        found["ratio_to_by_hand"] = ratios(found["msg_s"], found["by_hand_msg_s"])
        return found

    def by_hand(self) -> contextlib.AbstractAsyncContextManager[ByHand]:
        """The consumer by hand of the ordinary message, on the queue of the baselines."""
        return by_hand_batched(self._url, self._queue, self._place / "by-hand.duckdb")

    async def require_results(self, count: int) -> None:
        """Raises RuntimeError where not so many jobs of our pool have a result."""
        done = (await self._pool.report()).counts.done
        if done != count:
            raise RuntimeError(f"{done} of {count} messages have a result")

    def cpu_us(self) -> dict[str, float]:
        """CPU per job of each process, the median of the drains since this was asked last."""
        found, self._cpu_us = self._cpu_us, defaultdict(list)
        return medians(found, 1)

    async def _drained(self, count: int, messages: int) -> float:
        """Jobs per second of our pool, for which `count` jobs wait in `messages`."""
        meter = CpuMeter({**(await self._pool.pids()).groups(), "broker": self._broker})
        took_s = await self._pool.drain_paused(messages)
        self._note_cpu(meter, count)
        return count / took_s

    async def _drained_by_hand(self, hand: ByHand, count: int) -> float:
        meter = CpuMeter({"by hand": (hand.pid,), "broker, by hand": self._broker})
        took_s = await hand.drain(count)
        self._note_cpu(meter, count)
        return count / took_s

    def _note_cpu(self, meter: CpuMeter, count: int) -> None:
        for name, spent_s in meter.seconds().items():
            self._cpu_us[name].append(spent_s / count * 1e6)


def _ordinary_messages(queue: str, count: int) -> Iterable[EncodedMessage]:
    for order_id, body in documents(count):
        yield EncodedMessage(body=body, message_id=order_id, routing_key=queue, content_type=CONTENT_TYPE)


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """Measures everything on a quorum queue, and the empty messages on a classic one too (not in `quick`)."""
    load = QUICK if quick else FULL
    result: dict[str, Any] = {"load_average_before": load_average()}
    with private_node() as node, local_ray(WORKERS) as session:
        pid = int(getattr(node, "pid", 0))  # a broker that somebody else runs has none
        result["ordinary"] = asyncio.run(_ordinary(node.url, pid, session, load))
        result |= asyncio.run(_measured(node.url, pid, session, load))
        if not quick:
            result["classic"] = asyncio.run(_classic(node.url, pid, session, load))
    return result | {"load_average": load_average()}


async def _ordinary(url: str, broker_pid: int, session: Session, load: Load) -> dict[str, Any]:  # Any: JSON values
    async with _track(url, broker_pid, session, handler=HANDLER) as track, track.by_hand() as hand:
        await track.ordinary_pairs(hand, 1, load.ordinary_warm_up)
        track.cpu_us()
        found = await track.ordinary_pairs(hand, load.rounds, load.ordinary)
        await track.require_results(load.ordinary_warm_up + load.rounds * load.ordinary)
        return _figures(found) | {"cpu_us": track.cpu_us(), "body_bytes": BODY_BYTES}


async def _measured(url: str, broker_pid: int, session: Session, load: Load) -> dict[str, Any]:  # Any: JSON values
    async with _track(url, broker_pid, session) as track:
        await track.pairs(1, load.warm_up)
        track.cpu_us()
        result = _figures(await track.pairs(load.rounds, load.messages))
        result |= {"rounds": load.rounds, "cpu_us": track.cpu_us()}
        result["sizes"] = {
            name: await _body(track, load.rounds, count, size)
            for (name, size), count in zip(SIZES.items(), load.bodies, strict=True)
        }
        packed, packed_cpu_us = {}, {}
        for by, count in load.packed.items():
            packed[str(by)] = [await track.ours(count, packed=by) for _ in range(load.rounds)]
            packed_cpu_us[str(by)] = track.cpu_us()
        return result | {"packed": medians(packed), "packed_spread": spreads(packed), "packed_cpu_us": packed_cpu_us}


async def _classic(url: str, broker_pid: int, session: Session, load: Load) -> dict[str, Any]:  # Any: JSON values
    async with _track(url, broker_pid, session, kind="classic") as track:
        await track.pairs(1, load.warm_up)
        return _figures(await track.pairs(load.rounds, load.messages))


async def _body(track: Track, rounds: int, count: int, size: int) -> dict[str, Any]:  # Any: JSON values
    result = _figures(await track.pairs(rounds, count, size=size))
    return result | {"mb_s": rounded(result["msg_s"] * size / 1e6, 1), "cpu_us": track.cpu_us()}


def _figures(found: Rounds) -> dict[str, Any]:  # Any: JSON values
    rates = {name: values for name, values in found.items() if "ratio" not in name}
    shares = {name: values for name, values in found.items() if "ratio" in name}
    spread = spreads(rates) | spreads(shares, 3)
    return medians(rates) | medians(shares, 3) | {"spread": spread}


@contextlib.asynccontextmanager
async def _track(
    url: str, broker_pid: int, session: Session, *, kind: str = "quorum", handler: str = NOOP
) -> AsyncIterator[Track]:
    """A paused pool on its own queue and, beside it, a queue of the same type for the baselines."""
    queue = f"bench-raw-{uuid.uuid4().hex[:8]}"
    await declare(url, queue, kind)
    with folder() as place:
        async with pool_of(settings(url, place, {"queue_type": kind} | fixed(WORKERS)), session, handler) as pool:
            await pool.pause()
            yield Track(pool, queue, place, broker_pid)
    await delete(url, queue)


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """The ordinary message first, the empty one last."""
    rounds = f"Median of {result['rounds']} rounds in turn, least and largest in brackets; 2 workers"
    rows = [
        f"{rounds}, every result committed before its ack. Load average of the machine before and after: "
        f"{result['load_average_before']}, {result['load_average']}.",
        "",
        *_ordinary_rows(result["ordinary"]),
        "",
        "No-op handler; the bare clients commit nothing.",
        "",
        "| messages | rabbitray /s | bare aio-pika /s | bare aiormq /s | of aio-pika | of aiormq |",
        "|---|---:|---:|---:|---:|---:|",
        *(_row(f"{name} ({one['mb_s']} MB/s)", one) for name, one in result["sizes"].items()),
        *([_row("empty, classic queue", result["classic"])] if "classic" in result else []),
        _row("empty, quorum queue", result),
        "",
        "| packed by | records/s |",
        "|---|---:|",
        *(f"| {by} | {rate:,} |" for by, rate in result["packed"].items()),
        "",
        *_cpu_rows(result),
    ]
    return "\n".join(rows)


def _ordinary_rows(one: dict[str, Any]) -> list[str]:  # Any: JSON values
    cells = [f"{one[name]:,} ({_ends(one, name)})" for name in ("msg_s", "by_hand_msg_s")]
    return [
        "| the ordinary message | rabbitray /s | by hand, one process /s | of by hand |",
        "|---|---:|---:|---:|",
        f"| {one['body_bytes']:,} bytes of JSON, typed, ten fields into the file | {cells[0]} | {cells[1]} "
        f"| {one['ratio_to_by_hand']:.2f} |",
    ]


def _row(name: str, one: dict[str, Any]) -> str:  # Any: JSON values
    bare = " | ".join(f"{one[name]:,}" for name in ("raw_aio_pika_msg_s", "raw_aiormq_msg_s"))
    return (
        f"| {name} | {one['msg_s']:,} ({_ends(one, 'msg_s')}) | {bare} "
        f"| {one['ratio_to_aio_pika']:.2f} | {one['ratio_to_aiormq']:.2f} |"
    )


def _ends(one: dict[str, Any], name: str) -> str:  # Any: JSON values
    low, high = one["spread"][name]
    return f"{low:,} to {high:,}"


def _cpu_rows(result: dict[str, Any]) -> list[str]:  # Any: JSON values
    """CPU by process, a column for each kind of message."""
    columns = {"ordinary": result["ordinary"]["cpu_us"]}
    columns |= {name: one["cpu_us"] for name, one in result["sizes"].items()}
    columns |= {f"packed by {by}": spent for by, spent in result["packed_cpu_us"].items()}
    columns |= {"empty": result["cpu_us"]}
    processes = list(dict.fromkeys(name for spent in columns.values() for name in spent))
    return [
        f"| CPU, µs per message or record | {' | '.join(columns)} |",
        f"|---|{'---:|' * len(columns)}",
        *(
            f"| {process} | {' | '.join(str(spent.get(process, '')) for spent in columns.values())} |"
            for process in processes
        ),
    ]
