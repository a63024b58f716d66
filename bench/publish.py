"""The queue writer against bare aio-pika on the same node, in turns; and what each wire format costs.

Both sides send the same 50-byte body, persistent, mandatory and confirmed, with the same properties. Ours is
timed from the Job (encoding included), bare aio-pika from ready bytes. Jobs are made beforehand.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import timeit
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aio_pika
import msgspec
from aio_pika.abc import AbstractExchange, AbstractQueue

from bench.node import private_node
from rabbitray.actors.message.headers import MSGPACK, PUBLISHED
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import Form, decode, encode, pack
from rabbitray.actors.publisher import Publisher, PublisherConfig

LOWER_IS_BETTER = ("sequential.ratio_to_bare",)

QUEUE = "bench-publish"
FORMS: tuple[Form, ...] = ("verbose_json", "compact_json", "msgpack")
BLOCK = 25  # sequential messages before the other side's turn
GATHER = 1_000  # bare publishes in one gather

REFERENCE = Job(
    id="550e8400-e29b-41d4-a716-446655440000",
    user_id="user-123",
    message_type="BIRTHDAY",
    scheduled_at=datetime.fromtimestamp(1735819200, UTC),
)
"""The report's entry (section 3.1)."""

Sent = Callable[[Job], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    sequential: int
    pipelined: int
    packed: int
    rounds: int
    load_s: float


FULL = Size(sequential=3_000, pipelined=20_000, packed=200_000, rounds=5, load_s=60)
QUICK = Size(sequential=300, pipelined=3_000, packed=20_000, rounds=2, load_s=2)
LOAD_RATE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Both ways to the same queue."""

    publisher: Publisher
    exchange: AbstractExchange
    queue: AbstractQueue

    def bare(self, job: Job) -> Awaitable[object]:
        """One confirmed publish through aio-pika as its documentation shows it."""
        message = aio_pika.Message(
            BODY,
            content_type=MSGPACK,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=job.id,
            timestamp=time.time(),
            headers={PUBLISHED: time.time_ns() // 1_000_000},
        )
        return self.exchange.publish(message, QUEUE, mandatory=True)


BODY = encode(REFERENCE)[0]


def run(*, quick: bool) -> dict[str, Any]:
    """Measure everything on one node; durations in ms or µs as the names say, rates in 1/s."""
    with private_node() as node:
        result = asyncio.run(_measured(node.url, QUICK if quick else FULL))
    return {**result, "codec_us": _codec_us(), "bytes": _bytes()}


async def _measured(url: str, size: Size) -> dict[str, Any]:
    async with _sides(url) as sides:
        await _alternate(sides, 100)  # warm both up
        gc.collect()
        gc.freeze()
        ours_ms, bare_ms = await _alternate(sides, size.sequential)
        result: dict[str, Any] = {
            "sequential": {
                **_spread(ours_ms),
                "ratio_to_bare": round(statistics.fmean(ours_ms) / statistics.fmean(bare_ms), 3),
            },
            "bare": {"sequential": _spread(bare_ms)},
        }
        ours_s, bare_s = await _pipelined(sides, size)
        result["pipelined"] = {"msg_s": round(ours_s), "ratio_to_bare": round(ours_s / bare_s, 3)}
        result["bare"]["gather_msg_s"] = round(bare_s)
        result["packed"] = {"records_s": round(await _packed(sides, size))}
        result["submit_us"] = round(await _submit_us(sides, size.rounds), 2)
        result["load"] = await _load(sides, size.load_s)
    return result


@asynccontextmanager
async def _sides(url: str) -> AsyncIterator[Sides]:
    connection = await aio_pika.connect(url)
    async with connection, Publisher(PublisherConfig(url=url, queue=QUEUE)) as publisher:
        channel = await connection.channel(on_return_raises=True)
        queue = await channel.declare_queue(QUEUE, durable=True)
        await queue.purge()
        yield Sides(publisher=publisher, exchange=channel.default_exchange, queue=queue)
        await queue.delete(if_unused=False, if_empty=False)


def _jobs(count: int) -> list[Job]:
    return [Job(user_id="user-123", message_type="BIRTHDAY", scheduled_at=REFERENCE.scheduled_at) for _ in range(count)]


async def _alternate(sides: Sides, count: int) -> tuple[list[float], list[float]]:
    """Publish one at a time, `BLOCK` by ours, `BLOCK` by bare, so that both see the same machine; ms each."""
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(count // BLOCK):
        ours += await _one_by_one(sides.publisher.publish, _jobs(BLOCK))
        bare += await _one_by_one(sides.bare, _jobs(BLOCK))
    await sides.queue.purge()
    return ours, bare


async def _one_by_one(send: Sent, jobs: list[Job]) -> list[float]:
    times: list[float] = []
    for job in jobs:
        began = time.perf_counter()
        await send(job)
        times.append((time.perf_counter() - began) * 1000)
    return times


async def _pipelined(sides: Sides, size: Size) -> tuple[float, float]:
    """Messages/s, ours with `publish_many` and bare with `gather`: medians of rounds in turn."""
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(size.rounds):
        ours.append(size.pipelined / await _timed(sides, _many(sides.publisher, _jobs(size.pipelined))))
        bare.append(size.pipelined / await _timed(sides, _gathered(sides, _jobs(size.pipelined))))
    return statistics.median(ours), statistics.median(bare)


async def _packed(sides: Sides, size: Size) -> float:
    jobs = _jobs(size.packed)
    seconds = [await _timed(sides, _many(sides.publisher, jobs, packed=100)) for _ in range(size.rounds)]
    return size.packed / statistics.median(seconds)


async def _timed(sides: Sides, work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    seconds = time.perf_counter() - began
    await sides.queue.purge()
    return seconds


async def _many(publisher: Publisher, jobs: list[Job], packed: int = 0) -> None:
    report = await publisher.publish_many(jobs, packed=packed)
    if not report.ok:
        raise RuntimeError(f"{len(report.failed)} of {len(jobs)} were not confirmed: {report.failed[0].error}")


async def _gathered(sides: Sides, jobs: list[Job]) -> None:
    for start in range(0, len(jobs), GATHER):
        await asyncio.gather(*(sides.bare(job) for job in jobs[start : start + GATHER]))


async def _submit_us(sides: Sides, rounds: int) -> float:
    """What `submit` costs its caller, without the awaiting; the median of rounds of 1,000."""
    costs: list[float] = []
    for _ in range(rounds * 2):
        jobs = _jobs(1_000)
        began = time.perf_counter()
        futures = [sides.publisher.submit(job) for job in jobs]
        costs.append((time.perf_counter() - began) / len(jobs) * 1e6)
        await asyncio.gather(*futures)
    await sides.queue.purge()
    return statistics.median(costs)


async def _load(sides: Sides, seconds: float) -> dict[str, float]:
    """The report's load test (section 9.1): 200 messages/s, each timed from when it was due."""
    jobs = _jobs(round(LOAD_RATE * seconds))
    began = time.perf_counter()
    tasks: list[asyncio.Task[float]] = []
    for number, job in enumerate(jobs):
        due = began + number / LOAD_RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(_since(due, sides.publisher.publish(job))))
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    took_s = time.perf_counter() - began
    good = [end for end in ends if isinstance(end, float)]
    return {
        "rate": round(len(good) / took_s, 1),
        "error_rate": round(1 - len(good) / len(ends), 5),
        "mean_ms": round(statistics.fmean(good), 3),
    }


async def _since(due: float, work: Awaitable[None]) -> float:
    await work
    return (time.perf_counter() - due) * 1000


def _spread(times_ms: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times_ms, n=100)
    return {
        "mean_ms": round(statistics.fmean(times_ms), 3),
        "p95_ms": round(cuts[94], 3),
        "p99_ms": round(cuts[98], 3),
    }


def _bytes() -> dict[str, int]:
    """Bytes of the report's entry: its two documents as `json.dumps` writes the first, and our msgpack."""
    dated = msgspec.structs.replace(
        REFERENCE, scheduled_at=datetime(2026, 1, 2, 12, tzinfo=UTC), timestamp_ms=1735819200000
    )
    verbose = encode(dated, form="verbose_json")[0]
    separators = verbose.count(b'":') + verbose.count(b',"')  # the report's figure has a blank after each
    sizes: dict[str, int] = {form: len(encode(REFERENCE, form=form)[0]) for form in FORMS}
    return {**sizes, "verbose_json": len(verbose) + separators}


def _codec_us() -> dict[str, dict[str, float]]:
    costs: dict[str, dict[str, float]] = {}
    for form in FORMS:
        body, content_type = encode(REFERENCE, form=form)
        costs[form] = {
            "encode": _us(partial(encode, REFERENCE, form=form)),
            "decode": _us(partial(decode, body, content_type)),
        }
    jobs = [REFERENCE] * 100
    body, content_type = pack(jobs)
    costs["packed, per record"] = {
        "encode": round(_us(lambda: pack(jobs), 200) / 100, 2),
        "decode": round(_us(lambda: decode(body, content_type), 200) / 100, 2),
    }
    return costs


def _us(work: Callable[[], object], number: int = 10_000) -> float:
    return round(min(timeit.repeat(work, number=number, repeat=3)) / number * 1e6, 2)


def table(result: dict[str, Any]) -> str:
    """The figures beside the report's (sections 3.1, 5.1, 9.1) and bare aio-pika's."""
    ours, bare = result["sequential"], result["bare"]["sequential"]
    load, sizes = result["load"], result["bytes"]
    rows = [
        "| | report | bare aio-pika | rabbitray |",
        "|---|---:|---:|---:|",
        f"| one at a time, mean | 7.9 ms | {bare['mean_ms']} ms | {ours['mean_ms']} ms |",
        f"| one at a time, p95 | 12 ms | {bare['p95_ms']} ms | {ours['p95_ms']} ms |",
        f"| one at a time, p99 | 18 ms | {bare['p99_ms']} ms | {ours['p99_ms']} ms |",
        f"| pipelined, messages/s | 126.7 | {result['bare']['gather_msg_s']} | {result['pipelined']['msg_s']} |",
        f"| packed by 100, records/s | | | {result['packed']['records_s']} |",
        f"| `submit`, cost for the caller | | | {result['submit_us']} µs |",
        f"| load of 200/s: rate, errors, mean | <1 %, <10 ms | | "
        f"{load['rate']}/s, {load['error_rate']:.2%}, {load['mean_ms']} ms |",
        "",
        "| one entry | bytes | encode | decode |",
        "|---|---:|---:|---:|",
    ]
    for form, cost in result["codec_us"].items():
        rows.append(f"| {form} | {sizes.get(form, '')} | {cost['encode']} µs | {cost['decode']} µs |")
    return "\n".join(rows)
