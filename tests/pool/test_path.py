"""The whole path on real parts: RabbitMQ, Ray actors, DuckDB."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import time
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.message.job import Job
from rabbitray.actors.remote.compat.texts import NO_EXIT_CODE
from rabbitray.actors.router.report import WorkerRow
from rabbitray.cluster.commands.trace import stories_of, whereabouts
from rabbitray.cluster.driver import compose
from rabbitray.cluster.operate.running_pool import RunningPool as Reached
from rabbitray.cluster.results.message_story import Whereabouts
from rabbitray.cluster.results.reader import PoolReader
from rabbitray.cluster.settings import Loaded
from tests.kit.dlq_command import dlq
from tests.kit.eventually import eventually
from tests.kit.pool_audit import assert_adds_up
from tests.kit.pool_settings import HANDLE, HANDLE_ASYNC, HANDLE_WITH_MESSAGE, settings_for
from tests.kit.raw_amqp import BEYOND, long, parts_of, properties, publish, scalar, table, taken
from tests.kit.running_pool import RunningPool, pool_of
from tests.kit.stories import whats

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout("300")]

COUNTS = "SELECT count(*) AS rows, count(DISTINCT key) AS keys FROM results"


def jobs(count: int, **payload: object) -> list[Job]:
    return [Job(id=f"job-{n}", user_id=f"user-{n}", payload={"n": n, **payload}) for n in range(count)]


async def test_every_message_becomes_one_row(amqp_url: str, tmp_path: Path) -> None:
    """Also while a second pool of the same name is refused, and with traces for a collector that is not there."""
    nowhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    loaded = settings_for(amqp_url, tmp_path, nowhere, skip_done="always")
    async with pool_of(loaded) as pool:
        await pool.publish(jobs(3_000))
        with pytest.raises(ConfigurationError, match="runs already"):
            async with pool_of(loaded):
                await asyncio.Event().wait()
        report = await pool.acked(3_000)
        assert report.counts.done == 3_000
        assert_adds_up(report)
        await _finished_ones_do_not_run_again(pool, tmp_path / "runs")
        assert await pool.empty()
        drained = await eventually(pool.stop, within_s=40)
        assert drained.clean
        assert pool.rows(COUNTS) == [{"rows": 3_200, "keys": 3_200}]
        assert pool.rows("SELECT count(*) AS n FROM results WHERE result->>'key' = key") == [{"n": 3_200}]


async def _finished_ones_do_not_run_again(pool: RunningPool, ran: Path) -> None:
    """200 of which each notes its run, and the same 200 again: one by one, and packed."""
    before = (await pool.report()).counts
    work = [Job(id=f"noted-{n}", payload=_noted(ran)) for n in range(200)]
    await pool.publish(work)
    await pool.acked(before.acked + 200)
    await pool.publish(work)
    report = await pool.acked(before.acked + 400)
    assert _runs(ran) == 200
    assert (report.counts.done, report.counts.duplicates) == (before.done + 200, before.duplicates + 200)
    assert report.counts.skipped == before.skipped + 200
    assert_adds_up(report)
    await pool.publish(work, packed=50)
    report = await pool.acked(before.acked + 404)
    assert (_runs(ran), report.counts.duplicates) == (200, before.duplicates + 400)
    assert report.counts.runs == before.runs + 200, "the sum of all outcomes is right without them, too"


async def _what_a_killed_worker_had_committed_does_not_run_again(pool: RunningPool, ran: Path) -> None:
    """Two records of a packed message are committed, the third one runs: the message is not acked when its worker is
    killed. It is suspect then, and taken apart; its two records are acked in quarantine and do not run.
    """
    before = (await pool.report()).counts
    noted = [Job(id=f"kept-{n}", payload=_noted(ran)) for n in range(2)]
    await pool.publish([*noted, Job(id="slow", payload={"do": "slow", "s": 3.0})], packed=3)

    async def committed() -> WorkerRow | None:
        return await _busy_worker(pool) if (await pool.report()).counts.done == before.done + 2 else None

    victim = await eventually(committed, within_s=30, message="no early part")
    assert victim is not None
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    report = await pool.acked(before.acked + 4)
    assert _runs(ran) == 2
    assert (report.counts.done, report.counts.skipped) == (before.done + 3, before.skipped + 2)


def _noted(ran: Path) -> dict[str, object]:
    return {"do": "stamp", "file": str(ran), "times": 0}


def _runs(ran: Path) -> int:
    return len(ran.read_text().splitlines())


@pytest.mark.parametrize(
    ("handler", "job_s"),  # seconds of work for all of them
    [pytest.param(HANDLE, 0.02, marks=pytest.mark.long), (HANDLE_ASYNC, 0.5)],  # poison kills the other one, too
)
async def test_a_killed_worker_loses_nothing(amqp_url: str, tmp_path: Path, handler: str, job_s: float) -> None:
    """Large bodies arrive whole beside their batches: some within Ray's message, some through its object store."""
    sizes = (20, 40_000, 200_000, 2_000_000) * 20
    texts = {f"body-{n}": os.urandom(size // 2).hex() for n, size in enumerate(sizes)}
    bodies = [Job(id=key, payload={"do": "sum", "text": text}) for key, text in texts.items()]
    async with pool_of(settings_for(amqp_url, tmp_path, batch_size=10), handler) as pool:
        await pool.publish([*bodies[:20], *jobs(200, do="slow", s=job_s), *bodies[20:]])
        victim = await eventually(lambda: _busy_worker(pool), within_s=90, message="no worker got work")
        os.kill(victim.pid, signal.SIGKILL)
        report = await pool.acked(280)
        assert victim.name not in [worker.name for worker in report.workers]
        assert report.counts.dead == 0
        await pool.stop()
        assert pool.rows(COUNTS) == [{"rows": 280, "keys": 280}]
        sums = pool.rows("SELECT key, CAST(result->>'sum' AS BIGINT) AS sum FROM results WHERE key LIKE 'body-%'")
    assert {row["key"]: row["sum"] for row in sums} == {key: zlib.crc32(text.encode()) for key, text in texts.items()}


async def _busy_worker(pool: RunningPool) -> WorkerRow | None:
    return next((worker for worker in (await pool.report()).workers if worker.batches), None)


async def test_a_slow_job_does_not_slow_the_rest(amqp_url: str, tmp_path: Path) -> None:
    """2,000 fast jobs, and as many again beside one of 40 s: they take no share of its time."""
    loaded = settings_for(amqp_url, tmp_path, prefetch_count=200, batch_size=20, drain_deadline_s=0)
    async with pool_of(loaded) as pool:
        without_s = await _seconds_for(pool, jobs(2_000), acked=2_000, left=0)
        slow = Job(id="slow", payload={"do": "slow", "s": 40.0})
        more = [Job(id=f"more-{n}", payload={"n": n}) for n in range(2_000)]
        with_s = await _seconds_for(pool, [slow, *more], acked=4_000, left=1)
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


@pytest.mark.versions
async def test_what_fails_within_good_messages_is_singled_out(amqp_url: str, tmp_path: Path) -> None:
    """Bodies and headers that nobody can read among good ones, of other producers too, whose messages reach the handler
    as they were sent; then records that fail within one packed message.
    """
    async with pool_of(settings_for(amqp_url, tmp_path), HANDLE_WITH_MESSAGE) as pool:
        await _publish_broken_messages(pool)
        await _publish_own_documents(pool)
        await pool.publish(jobs(45))
        report = await pool.acked(54)
        assert (report.counts.done, report.counts.dead) == (50, 4)
        parked = await taken(amqp_url, compose.topology(pool.loaded.settings).dead_queue)
        found = {str(one.message_id): str((one.headers or {})["x-rabbitray-reason"]) for one, _ in parked}
        assert set(found) == {"bad-0", "bad-1", "bad-2", "bad-3"}
        assert all(found.values())
        failing = [Job(id=f"once-{n}", payload={"do": "raise", "times": 1}) for n in range(5)]
        rejected = [Job(id="never", payload={"do": "reject"})]
        await pool.publish([*jobs(144)[50:], *failing, *rejected], packed=100)
        await eventually(lambda: _at_rest(pool, done=149, dead=5), within_s=60)
        received = (await pool.report()).received - report.received
        assert received == 1 + 5, "one packed message, and five single copies"
        await _odd_handlers(pool)
        await pool.stop()
        graves = pool.rows(
            "SELECT coalesce(key, message_id) AS key, reason, octet_length(body) AS size, raw_properties "
            "FROM dead_letters WHERE key IS NULL OR key NOT LIKE 'odd %' ORDER BY 1"
        )
        assert [(row["key"], row["reason"]) for row in graves] == [*sorted(found.items()), ("never", "rejected")]
        assert graves[2]["size"] == 5_000
        raw = [row["raw_properties"] for row in graves]
        assert [one is None for one in raw] == [False, False, False, False, True], "aio-pika writes a priority, we none"
        assert parts_of(raw[3]) == parts_of(UNREADABLE)
        runs = pool.rows("SELECT attempts, count(*) AS n FROM results WHERE key NOT LIKE 'odd %' GROUP BY 1 ORDER BY 1")
        assert runs == [{"attempts": 1, "n": 50 + 94}, {"attempts": 2, "n": 5}]
        _odd_outcomes(pool)
        rows = pool.rows("SELECT key, user_id, result FROM results WHERE key LIKE 'own %' ORDER BY key")
        results = [json.loads(row["result"]) for row in rows]
        found_own = [(row["key"], row["user_id"], result["payload"]) for row, result in zip(rows, results, strict=True)]
        assert found_own == [(f"own {n}", None, document) for n, document in enumerate(OWN_DOCUMENTS)]
        _came_whole(pool, results)


def _came_whole(pool: RunningPool, results: list[dict[str, Any]]) -> None:
    """Each result tells of the message that the handler got."""
    sent = OWN_PROPERTIES | {"content_type": "application/json", "routing_key": pool.loaded.settings.queue}
    absent = {"content_encoding": None, "user_id": None, "exchange": "", "redelivered": False, "delivery_count": 0}
    for number, result in enumerate(results):
        got = result["message"]
        assert datetime.fromisoformat(got.pop("expires_at")) > datetime.now(UTC) + timedelta(minutes=30)
        assert got == sent | absent | {"message_id": f"own {number}"}
        assert result["size"] == len(json.dumps(OWN_DOCUMENTS[number]))


ODD_DEAD = {
    "lazy": ("result_not_serialisable", "the result cannot be read: OSError: the connection is closed"),
    "two keys": ("result_not_serialisable", "two keys that are '1' in JSON (int and str): use text keys"),
    "group": ("rejected", "several (2 sub-exceptions): ConnectionError: down; rabbitray.actors.errors.Reject: closed"),
    "cause": ("permanent", "wrapped; caused by ValueError: no such field"),
}


async def _odd_handlers(pool: RunningPool) -> None:
    """What handlers return and raise against all advice is the outcome of its job, and no worker ends of it."""
    before = await pool.report()
    odd = [Job(id=f"odd {how}", payload={"do": "odd", "how": how}) for how in (*ODD_DEAD, "own retry", "awaitable")]
    counted = [Job(id=f"odd {n}", payload={"do": "odd", "how": "goes on changing"}) for n in range(40)]
    await pool.publish([*odd, *counted])
    done, dead = before.counts.done + 42, before.counts.dead + len(ODD_DEAD)
    await eventually(lambda: _at_rest(pool, done=done, dead=dead), within_s=30)
    assert (await pool.report()).replaced == before.replaced == 0


def _odd_outcomes(pool: RunningPool) -> None:
    dead = pool.rows("SELECT key, reason, error FROM dead_letters WHERE key LIKE 'odd %'")
    found = {row["key"].removeprefix("odd "): (row["reason"], row["error"]) for row in dead}
    assert {how: reason for how, (reason, _) in found.items()} == {how: reason for how, (reason, _) in ODD_DEAD.items()}
    assert all(found[how][1].endswith(text) for how, (_, text) in ODD_DEAD.items()), found
    rows = pool.rows("SELECT key, attempts, result->'keys'->>-1 AS last FROM results WHERE key LIKE 'odd %'")
    assert {row["key"] for row in rows if row["attempts"] == 2} == {"odd own retry"}
    counted = [row for row in rows if row["key"].removeprefix("odd ").isdecimal()]
    assert (len(counted), all(row["last"] == row["key"] for row in counted)) == (40, True)


UNREADABLE = properties(table({b"when": scalar("T", BEYOND[0]), b"tenant": long("S", b"a")}), b"bad-3")


OWN_DOCUMENTS = [
    {"do": "echo", "userId": "u1", "timestamp": 1735819200000, "event": "click", "page": "/"},
    {"do": "echo", "timestamp": "2026-01-02T12:00:00Z", "payload": {"a": 1}, "event": "order.created", "id": "evt_1"},
    {"do": "echo", "userId": 42, "payload": {"a": 1}},
    {"do": "echo", "t": 21.5, "p": 1013, "h": 40, "sensor": "s1"},
    {"do": "echo", "m": 1, "s": 2},
]


OWN_PROPERTIES: dict[str, Any] = {
    "type": "order.created",
    "correlation_id": "c-1",
    "reply_to": "answers",
    "app_id": "shop",
    "priority": 3,
    "timestamp": 1_767_355_200,
    "headers": {"tenant": "acme", "sizes": [1, 2.5], "deep": {"a": None}},
}


async def _publish_own_documents(pool: RunningPool) -> None:
    """Of a producer who has never heard of us, with field names of the report among his."""
    settings = pool.loaded.settings
    async with await aio_pika.connect(settings.rabbitmq_url.reveal()) as connection:
        channel = await connection.channel()
        for number, document in enumerate(OWN_DOCUMENTS):
            body, kind = json.dumps(document).encode(), "application/json"
            message = aio_pika.Message(
                body,
                content_type=kind,
                message_id=f"own {number}",
                delivery_mode=2,
                expiration=timedelta(hours=1),
                **OWN_PROPERTIES,
            )
            await channel.default_exchange.publish(message, settings.queue)


async def _publish_broken_messages(pool: RunningPool) -> None:
    settings = pool.loaded.settings
    bodies = [(b"\xc1\xff", "application/msgpack"), (b"{", "application/json"), (b"[" * 5_000, "application/json")]
    async with await aio_pika.connect(settings.rabbitmq_url.reveal()) as connection:
        channel = await connection.channel()
        for number, (body, kind) in enumerate(bodies):
            message = aio_pika.Message(body, content_type=kind, message_id=f"bad-{number}", delivery_mode=2)
            await channel.default_exchange.publish(message, settings.queue)
    await publish(settings.rabbitmq_url.reveal(), settings.queue, [(UNREADABLE, b"{}")])


async def test_failures_are_retried_then_parked(amqp_url: str, tmp_path: Path) -> None:
    """A job that forks is among them: its child is a copy of the worker, with the connections of a real one to Ray.

    And `rabbitray trace` tells of each, through the running pool.
    """
    async with pool_of(settings_for(amqp_url, tmp_path, max_retries=2)) as pool:
        await pool.publish(
            [
                Job(id="once", payload={"do": "raise", "times": 1}),
                Job(id="twice", payload={"do": "raise", "times": 2}),
                Job(id="always", payload={"do": "raise"}),
                Job(id="rejected", payload={"do": "reject", "text": "no such user"}),
                Job(id="forks", payload={"do": "fork", "code": 7}),
                Job(id="fine", payload={"do": "ok"}),
            ]
        )
        await eventually(lambda: _at_rest(pool, done=4, dead=2), within_s=30)
        assert (await pool.report()).replaced == 0
        await asyncio.to_thread(_trace_tells, pool.loaded)
        await _others_under_a_known_key(pool, tmp_path / "ran")
        await _what_a_killed_worker_had_committed_does_not_run_again(pool, tmp_path / "killed")
        await pool.stop()
        others = pool.rows("SELECT key, message_id, attempts, result IS NOT NULL AS kept FROM conflicts")
        assert others == [{"key": "fine", "message_id": "fine", "attempts": 1, "kept": True}]
        assert pool.rows("SELECT result->>'code' AS code FROM results WHERE key = 'forks'") == [{"code": "7"}]
        done = {row["key"]: row["attempts"] for row in pool.rows("SELECT key, attempts FROM results")}
        assert done == {"once": 2, "twice": 3, "forks": 1, "fine": 1, "kept-0": 1, "kept-1": 1, "slow": 1}
        dead = pool.rows("SELECT key, reason, attempts, error FROM dead_letters ORDER BY key")
        assert [(row["key"], row["reason"], row["attempts"]) for row in dead] == [
            ("always", "max_retries", 3),
            ("rejected", "rejected", 1),
        ]
        assert dead[1]["error"] == "no such user"
        failed = pool.rows("SELECT key, attempts, error, raised_in FROM failures WHERE key <> 'fine' ORDER BY ALL")
        runs = [("always", 1), ("always", 2), ("always", 3), ("once", 1), ("twice", 1), ("twice", 2)]
        assert [(row["key"], row["attempts"]) for row in failed] == runs
        assert len({row["raised_in"] for row in failed}) == 1
        parked = await taken(amqp_url, compose.topology(pool.loaded.settings).dead_queue)
        assert not any("steered_handler" in str(one.headers) for one, _ in parked), "no traceback travels"


def _trace_tells(loaded: Loaded) -> None:
    """What happened to a job that needed a retry: its message id and its key are the same in both runs."""
    reader = PoolReader(pool=Reached(name=loaded.settings.pool, namespace=loaded.settings.ray_namespace))
    (story,) = stories_of(reader, "once")
    assert (story.ended, story.key) == ("done", "once")
    assert whats(story) == ["published", "failed", "received", "started", "finished", "committed", "settled"]
    assert story.attempts == 2
    assert "run 2 on" in story.steps[3].detail
    assert story.message_ids == ("once",)
    assert story.steps[1].detail.endswith(": ConnectionError: told to raise")
    _tells_where(story.steps[1].traceback, 'raise ConnectionError(steps.get("text", "told to raise"))')
    (always,) = stories_of(reader, "always")
    assert whats(always) == ["first seen", "failed", "failed", "parked", "recorded", "settled"], "the last run once"
    (parked,) = stories_of(reader, "rejected")
    assert (parked.ended, whats(parked)[-3:]) == ("dead", ["parked", "recorded", "settled"])
    _tells_where(parked.steps[1].traceback, 'raise Reject(steps.get("text", "told to reject"))')
    queue = loaded.settings.queue
    assert whereabouts(loaded, reader) == Whereabouts(queue=queue, ready=0, waiting=0, held=0)


def _tells_where(traceback: str | None, raised: str) -> None:
    """Two frames of the user's code, the call first, and none of ours."""
    first, last = (traceback or "").splitlines()
    assert first.startswith("tests/kit/steered_handler.py:")
    assert first.endswith("in handle: return _act(job, steps)")
    assert last.endswith(f"in _act: {raised}")


async def _others_under_a_known_key(pool: RunningPool, ran: Path) -> None:
    """Whoever came first has the result: later messages under its key are run, and acked whatever comes of it."""
    acked = (await pool.report()).counts.acked
    again = Job(id="fine", payload={"do": "ok"})
    await pool.publish([again, Job(id="fine", payload={"do": "stamp", "file": str(ran), "times": 0})])
    await pool.publish([Job(id="fine", payload={"do": "raise"}), Job(id="fine", payload={"do": "reject"})])
    await pool.acked(acked + 4)
    counts = (await pool.report()).counts
    assert (counts.done, counts.duplicates, counts.dead) == (4, 4, 2)
    assert_adds_up(await pool.report())
    assert await asyncio.to_thread(ran.exists)


async def _at_rest(pool: RunningPool, *, done: int, dead: int) -> bool:
    report = await pool.report()
    return (report.counts.done, report.counts.dead, report.pool.held) == (done, dead, 0)


async def test_only_the_poison_is_parked(amqp_url: str, ray_cluster: str, tmp_path: Path) -> None:
    """One among messages of its own, and one among the records of a packed message.

    Their keys stand in the bodies, which a worker alone has read: it told them before it died. What nobody has read
    gets its key when it is replayed.
    """
    async with pool_of(settings_for(amqp_url, tmp_path, batch_size=8, key="body:/id")) as pool:
        alone, packed = (Job(payload={"do": "die", "id": key}) for key in ("alone", "packed"))
        innocents = [Job(payload={"id": f"job-{n}", "n": n}) for n in range(56)]
        await pool.publish([*innocents[:20], alone, *innocents[20:40]])
        await pool.publish([*innocents[40:48], packed, *innocents[48:]], packed=50)
        await eventually(lambda: _at_rest(pool, done=56, dead=2), within_s=150)
        assert (await dlq(pool, "show", "packed", ray_address=ray_cluster))["reason"] == "worker_crashed"
        await _what_rabbitmq_dropped_gets_its_key_at_its_replay(pool)
        await pool.stop()
        assert pool.rows(COUNTS) == [{"rows": 57, "keys": 57}]
        assert pool.rows("SELECT count(*) AS n FROM results WHERE result->>'key' = key") == [{"n": 57}]
        assert pool.rows("SELECT key FROM results WHERE key NOT LIKE 'job-%'") == [{"key": "dropped"}]
        assert pool.rows("SELECT max(attempts) AS runs FROM results") == [{"runs": 1}]
        dead = pool.rows("SELECT key, reason, error FROM dead_letters WHERE key IS NOT NULL ORDER BY key")
        ended = {"reason": "worker_crashed", "error": NO_EXIT_CODE}
        assert dead == [{"key": key} | ended for key in ("alone", "packed")]
        assert pool.rows("SELECT reason FROM dead_letters WHERE key IS NULL") == [{"reason": "broker_unknown"}]


async def _what_rabbitmq_dropped_gets_its_key_at_its_replay(pool: RunningPool) -> None:
    settings = pool.loaded.settings
    async with await aio_pika.connect(settings.rabbitmq_url.reveal()) as connection, connection.channel() as channel:
        message = aio_pika.Message(b'{"id": "dropped"}', content_type="application/json", delivery_mode=2)
        await channel.default_exchange.publish(message, compose.topology(settings).dropped_queue)
    await eventually(lambda: _at_rest(pool, done=56, dead=3), within_s=30)
    assert (await dlq(pool, "replay", "--class", "BrokerDrop"))["replayed"] == 1
    await eventually(lambda: _at_rest(pool, done=57, dead=3), within_s=30)


async def test_retries_are_never_early_and_long_delays_hold_up_no_short_ones(amqp_url: str, tmp_path: Path) -> None:
    """The ladder's 0.5 s and 1 s, 2 s asked for by the handler, and 3 s beyond the longest rung, all at once."""
    loaded = settings_for(amqp_url, tmp_path, retry_delay_ms=500, retry_max_delay_ms=2_000, skip_done="off")
    wanted = {"ladder": [0.5, 1.0], "asked": [2.0], "beyond": [3.0]}
    asked = {"ladder": None, "asked": 1.6, "beyond": 3.0}
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
        await _without_the_question_finished_ones_run_again(pool, tmp_path / "runs")
    for kind, delays in wanted.items():
        for n in range(10):
            stamps = [float(line) for line in (tmp_path / f"{kind}-{n}").read_text().split()]
            gaps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
            assert len(gaps) == len(delays)
            assert all(gap >= delay for gap, delay in zip(gaps, delays, strict=True)), (kind, gaps)


async def _without_the_question_finished_ones_run_again(pool: RunningPool, ran: Path) -> None:
    before = (await pool.report()).counts
    for turn in (1, 2):
        await pool.publish(Job(id=f"noted-{n}", payload=_noted(ran)) for n in range(20))
        report = await pool.acked(before.acked + turn * 20)
    assert _runs(ran) == 40
    assert (report.counts.done, report.counts.duplicates, report.counts.skipped) == (before.done + 20, 20, 0)


@pytest.mark.long  # test_poison.py has one that hangs, among others
async def test_a_job_that_hangs_is_parked_and_its_neighbours_finish(amqp_url: str, tmp_path: Path) -> None:
    loaded = settings_for(amqp_url, tmp_path, handler_timeout_s=1, batch_size=20)
    async with pool_of(loaded) as pool:
        await pool.publish([*jobs(100), Job(id="hangs", payload={"do": "hang"}), *jobs(200)[100:]])
        await eventually(lambda: _at_rest(pool, done=200, dead=1), within_s=90)
        await pool.stop()
        assert pool.rows("SELECT max(attempts) AS runs FROM results") == [{"runs": 1}]
        [dead] = pool.rows("SELECT key, reason, traceback FROM dead_letters")
        assert (dead["key"], dead["reason"]) == ("hangs", "handler_timeout")
        assert dead["traceback"].endswith("in handle: time.sleep(wait_s)"), "where it stood"
