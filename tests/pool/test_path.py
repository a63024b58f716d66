"""The whole path on real parts: RabbitMQ, Ray actors, DuckDB."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
import zlib
from pathlib import Path

import aio_pika
import pytest

from rabbitray.actors.message.job import Job
from rabbitray.actors.router.report import WorkerRow
from rabbitray.cluster.driver import compose
from tests.kit.eventually import eventually
from tests.kit.pool_settings import HANDLE, HANDLE_ASYNC, settings_for
from tests.kit.running_pool import RunningPool, pool_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout("300")]

COUNTS = "SELECT count(*) AS rows, count(DISTINCT key) AS keys FROM results"


def jobs(count: int, **payload: object) -> list[Job]:
    return [Job(id=f"job-{n}", user_id=f"user-{n}", payload={"n": n, **payload}) for n in range(count)]


async def test_every_message_becomes_one_row(amqp_url: str, tmp_path: Path) -> None:
    async with pool_of(settings_for(amqp_url, tmp_path)) as pool:
        await pool.publish(jobs(5_000))
        report = await pool.acked(5_000)
        assert report.counts.done == 5_000
        assert await pool.empty()
        await pool.stop()
        assert pool.rows(COUNTS) == [{"rows": 5_000, "keys": 5_000}]
        assert pool.rows("SELECT count(*) AS n FROM results WHERE result->>'key' = key") == [{"n": 5_000}]


@pytest.mark.parametrize(
    ("handler", "job_s"),  # seconds of work for all of them
    [pytest.param(HANDLE, 0.02, marks=pytest.mark.long), (HANDLE_ASYNC, 0.5)],  # poison kills the other one, too
)
async def test_a_killed_worker_loses_nothing(amqp_url: str, tmp_path: Path, handler: str, job_s: float) -> None:
    async with pool_of(settings_for(amqp_url, tmp_path), handler) as pool:
        await pool.publish(jobs(400, do="slow", s=job_s))
        victim = await eventually(lambda: _busy_worker(pool), within_s=90, message="no worker got work")
        os.kill(victim.pid, signal.SIGKILL)
        report = await pool.acked(400)
        assert victim.name not in [worker.name for worker in report.workers]
        assert report.counts.dead == 0
        await pool.stop()
        assert pool.rows(COUNTS) == [{"rows": 400, "keys": 400}]


async def test_large_bodies_arrive_whole_also_after_a_kill(amqp_url: str, tmp_path: Path) -> None:
    """Beside their batches: some within Ray's message, some through its object store."""
    texts = [os.urandom(size // 2).hex() for size in (20, 40_000, 200_000, 2_000_000) for _ in range(20)]
    work = [Job(id=str(n), payload={"do": "sum", "text": text}) for n, text in enumerate(texts)]
    async with pool_of(settings_for(amqp_url, tmp_path, batch_size=10)) as pool:
        await pool.publish(work[::7] + [job for n, job in enumerate(work) if n % 7])
        victim = await eventually(lambda: _busy_worker(pool), within_s=90, message="no worker got work")
        os.kill(victim.pid, signal.SIGKILL)
        await pool.acked(len(work))
        await pool.stop()
        found = pool.rows("SELECT key, CAST(result->>'sum' AS BIGINT) AS sum FROM results ORDER BY CAST(key AS INT)")
    assert found == [{"key": str(n), "sum": zlib.crc32(text.encode())} for n, text in enumerate(texts)]


async def _busy_worker(pool: RunningPool) -> WorkerRow | None:
    return next((worker for worker in (await pool.report()).workers if worker.batches), None)


async def test_a_slow_job_does_not_slow_the_rest(amqp_url: str, tmp_path: Path) -> None:
    """3,000 fast jobs, and as many again beside one of 40 s: they take no share of its time."""
    loaded = settings_for(amqp_url, tmp_path, prefetch_count=200, batch_size=20, drain_deadline_s=0)
    async with pool_of(loaded) as pool:
        without_s = await _seconds_for(pool, jobs(3_000), acked=3_000, left=0)
        slow = Job(id="slow", payload={"do": "slow", "s": 40.0})
        more = [Job(id=f"more-{n}", payload={"n": n}) for n in range(3_000)]
        with_s = await _seconds_for(pool, [slow, *more], acked=6_000, left=1)
        assert with_s < 3 * without_s + 5, f"{without_s:.1f} s without the slow job, {with_s:.1f} s beside it"


async def _seconds_for(pool: RunningPool, work: list[Job], *, acked: int, left: int) -> float:
    """From the first publish until so many are acked in all and `left` are still in hand."""

    async def settled() -> bool:
        report = await pool.report()
        return (report.counts.acked, report.pool.held) == (acked, left)

    began = time.monotonic()
    await pool.publish(work)
    await eventually(settled, within_s=35, message="the slow job held up others")
    return time.monotonic() - began


async def test_broken_bodies_go_to_the_dead_letters_with_their_reason(amqp_url: str, tmp_path: Path) -> None:
    loaded = settings_for(amqp_url, tmp_path)
    async with pool_of(loaded) as pool:
        connection = await aio_pika.connect(amqp_url)
        async with connection:
            channel = await connection.channel()
            for number, (body, kind) in enumerate(
                [(b"\xc1\xff", "application/msgpack"), (b"{", "application/json"), (b"[" * 5_000, "application/json")]
            ):
                message = aio_pika.Message(body, content_type=kind, message_id=f"bad-{number}", delivery_mode=2)
                await channel.default_exchange.publish(message, loaded.settings.queue)
            await pool.publish(jobs(50))
            report = await pool.acked(53)
            assert (report.counts.done, report.counts.dead) == (50, 3)
            dead = await channel.get_queue(compose.topology(loaded.settings).dead_queue)
            found = {}
            for _ in range(3):
                parked = await dead.get(timeout=5)
                assert parked is not None
                await parked.ack()
                found[str(parked.message_id)] = str(parked.headers["x-rabbitray-reason"])
            assert set(found) == {"bad-0", "bad-1", "bad-2"}
            assert all(found.values())
        await pool.stop()
        graves = pool.rows("SELECT key, reason, octet_length(body) AS size FROM dead_letters ORDER BY key")
        assert [(row["key"], row["reason"]) for row in graves] == sorted(found.items())
        assert graves[2]["size"] == 5_000


async def test_failures_are_retried_then_parked(amqp_url: str, tmp_path: Path) -> None:
    """A job that forks is among them: its child is a copy of the worker, with the connections of a real one to Ray."""
    loaded = settings_for(amqp_url, tmp_path, max_retries=2)
    async with pool_of(loaded) as pool:
        await pool.publish(
            [
                Job(id="twice", payload={"do": "raise", "times": 2}),
                Job(id="always", payload={"do": "raise"}),
                Job(id="rejected", payload={"do": "reject", "text": "no such user"}),
                Job(id="forks", payload={"do": "fork", "code": 7}),
                Job(id="fine", payload={"do": "ok"}),
            ]
        )
        await eventually(lambda: _at_rest(pool, done=3, dead=2), within_s=30)
        assert (await pool.report()).replaced == 0
        await pool.stop()
        assert pool.rows("SELECT result->>'code' AS code FROM results WHERE key = 'forks'") == [{"code": "7"}]
        done = {row["key"]: row["attempts"] for row in pool.rows("SELECT key, attempts FROM results")}
        assert done == {"twice": 3, "forks": 1, "fine": 1}
        dead = pool.rows("SELECT key, reason, attempts, error FROM dead_letters ORDER BY key")
        assert [(row["key"], row["reason"], row["attempts"]) for row in dead] == [
            ("always", "max_retries", 3),
            ("rejected", "rejected", 1),
        ]
        assert dead[1]["error"] == "no such user"


async def _at_rest(pool: object, *, done: int, dead: int) -> bool:
    report = await pool.report()  # type: ignore[attr-defined] # a RunningPool
    return (report.counts.done, report.counts.dead, report.pool.held) == (done, dead, 0)


async def test_only_the_poison_is_parked(amqp_url: str, tmp_path: Path) -> None:
    loaded = settings_for(amqp_url, tmp_path)
    async with pool_of(loaded) as pool:
        innocents = jobs(200)
        await pool.publish([*innocents[:100], Job(id="poison", payload={"do": "die"}), *innocents[100:]])
        await eventually(lambda: _at_rest(pool, done=200, dead=1), within_s=150)
        await pool.stop()
        assert pool.rows(COUNTS) == [{"rows": 200, "keys": 200}]
        assert pool.rows("SELECT max(attempts) AS runs FROM results") == [{"runs": 1}]
        dead = pool.rows("SELECT key, reason FROM dead_letters")
        assert dead == [{"key": "poison", "reason": "worker_crashed"}]


async def test_a_second_pool_of_the_same_name_is_refused(amqp_url: str, tmp_path: Path) -> None:
    from rabbitray.actors.errors import ConfigurationError

    loaded = settings_for(amqp_url, tmp_path)
    async with pool_of(loaded):
        with pytest.raises(ConfigurationError, match="runs already"):
            async with pool_of(loaded):
                await asyncio.Event().wait()


async def test_one_record_that_kills_does_not_take_its_packed_neighbours_along(amqp_url: str, tmp_path: Path) -> None:
    loaded = settings_for(amqp_url, tmp_path)
    async with pool_of(loaded) as pool:
        records = jobs(40)
        await pool.publish([*records[:20], Job(id="poison", payload={"do": "die"}), *records[20:]], packed=50)
        await eventually(lambda: _at_rest(pool, done=40, dead=1), within_s=150)
        await pool.stop()
        assert pool.rows(COUNTS) == [{"rows": 40, "keys": 40}]
        assert pool.rows("SELECT key, reason FROM dead_letters") == [{"key": "poison", "reason": "worker_crashed"}]


async def test_only_the_failing_records_of_a_packed_message_are_retried(amqp_url: str, tmp_path: Path) -> None:
    loaded = settings_for(amqp_url, tmp_path)
    async with pool_of(loaded) as pool:
        failing = [Job(id=f"once-{n}", payload={"do": "raise", "times": 1}) for n in range(5)]
        rejected = [Job(id="never", payload={"do": "reject"})]
        await pool.publish([*jobs(94), *failing, *rejected], packed=100)
        await eventually(lambda: _at_rest(pool, done=99, dead=1), within_s=60)
        report = await pool.report()
        assert report.received == 1 + 5, "one packed message, and five single copies"
        await pool.stop()
        runs = pool.rows("SELECT attempts, count(*) AS n FROM results GROUP BY 1 ORDER BY 1")
        assert runs == [{"attempts": 1, "n": 94}, {"attempts": 2, "n": 5}]


async def test_retries_are_never_early_and_long_delays_hold_up_no_short_ones(amqp_url: str, tmp_path: Path) -> None:
    """The ladder's 0.5 s and 1 s, 2 s asked for by the handler, and 5 s beyond the longest rung, all at once."""
    loaded = settings_for(amqp_url, tmp_path, retry_delay_ms=500, retry_max_delay_ms=2_000)
    wanted = {"ladder": [0.5, 1.0], "asked": [2.0], "beyond": [5.0]}
    asked = {"ladder": None, "asked": 1.6, "beyond": 5.0}
    async with pool_of(loaded) as pool:
        await pool.publish(
            Job(
                id=f"{kind}-{n}",
                payload={
                    "do": "stamp",
                    "file": str(tmp_path / f"{kind}-{n}"),
                    "times": len(wanted[kind]),
                    "after_s": asked[kind],
                },
            )
            for kind in wanted
            for n in range(10)
        )
        await eventually(lambda: _at_rest(pool, done=30, dead=0), within_s=60)
    for kind, delays in wanted.items():
        for n in range(10):
            stamps = [float(line) for line in (tmp_path / f"{kind}-{n}").read_text().split()]
            gaps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
            assert len(gaps) == len(delays)
            assert all(gap >= delay for gap, delay in zip(gaps, delays, strict=True)), (kind, gaps)


@pytest.mark.long  # test_poison.py has one that hangs, among others
async def test_a_job_that_hangs_is_parked_and_its_neighbours_finish(amqp_url: str, tmp_path: Path) -> None:
    loaded = settings_for(amqp_url, tmp_path, handler_timeout_s=1, batch_size=20)
    async with pool_of(loaded) as pool:
        await pool.publish([*jobs(100), Job(id="hangs", payload={"do": "hang"}), *jobs(200)[100:]])
        await eventually(lambda: _at_rest(pool, done=200, dead=1), within_s=90)
        await pool.stop()
        assert pool.rows("SELECT max(attempts) AS runs FROM results") == [{"runs": 1}]
        assert pool.rows("SELECT key, reason FROM dead_letters") == [{"key": "hangs", "reason": "handler_timeout"}]
