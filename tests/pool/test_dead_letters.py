"""Dead letters and back: parked by a pool, replayed with `rabbitray dlq replay`, worked by the same pool."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import EncodedMessage, Publisher
from rabbitray.actors.store.read_only import read_only_query
from rabbitray.cluster.driver import compose
from rabbitray.cluster.results.report import read_run
from tests.kit.dlq_command import dlq
from tests.kit.eventually import eventually
from tests.kit.pool_audit import assert_adds_up
from tests.kit.pool_settings import settings_for
from tests.kit.queue_access import depth, drained
from tests.kit.running_pool import RunningPool, pool_of

pytestmark = pytest.mark.ray

REFUSED = 20
LARGE = 20 * 1024 * 1024


async def at_rest(pool: RunningPool, *, done: int, dead: int) -> bool:
    report = await pool.report()
    return (report.counts.done, report.counts.dead, report.pool.held) == (done, dead, 0) and await pool.empty()


def refused(names: Sequence[str], switch: Path) -> list[Job]:
    """Jobs that fail for good for as long as the file is there."""
    switch.touch()
    return [Job(id=name, payload={"do": "refuses", "file": str(switch)}) for name in names]


async def test_a_dead_letter_comes_back_and_is_worked(amqp_url: str, ray_cluster: str, tmp_path: Path) -> None:
    """The account of `soon` is there at the first replay, that of `later` only at the second one.

    That is typed on a node that knows of no broker.
    """
    soon, later = tmp_path / "soon", tmp_path / "later"
    keys = [f"soon-{n}" for n in range(REFUSED)]
    loaded = settings_for(amqp_url, tmp_path)
    dead_queue = compose.topology(loaded.settings).dead_queue
    async with pool_of(loaded) as pool:
        fine = [Job(id=f"fine-{n}", payload={}) for n in range(REFUSED)]
        await pool.publish([*refused(keys, soon), *fine, *refused(["later"], later)])
        await eventually(lambda: at_rest(pool, done=REFUSED, dead=REFUSED + 1), within_s=30)
        assert await depth(amqp_url, dead_queue) == REFUSED + 1

        soon.unlink()
        replayed_at = datetime.now(UTC)
        found = await dlq(pool, "replay", "--class", "ValueError")
        assert (found["replayed"], found["failed"], found["classes"]) == (REFUSED + 1, 0, {"ValueError": REFUSED + 1})
        await eventually(lambda: at_rest(pool, done=2 * REFUSED, dead=REFUSED + 2), within_s=30)
        assert_adds_up(await pool.report())
        assert await depth(amqp_url, dead_queue) == 1, "the one that is refused again"

        later.unlink()
        assert (await dlq(pool, "replay", "--all", ray_address=ray_cluster, knows_broker=False))["replayed"] == 1
        await eventually(lambda: at_rest(pool, done=2 * REFUSED + 1, dead=REFUSED + 2), within_s=30)
        assert await depth(amqp_url, dead_queue) == 0

        await publish_large(pool)
        await eventually(lambda: at_rest(pool, done=2 * REFUSED + 1, dead=REFUSED + 3), within_s=30)
        [letter] = await drained(amqp_url, dead_queue)
        assert letter.body == b"x" * LARGE, "it is in the queue alone"
        await pool.stop()
        [large] = pool.rows("SELECT reason, error, body FROM dead_letters WHERE message_id = 'large'")
        assert (large["reason"], large["body"], f"in {dead_queue} only" in large["error"]) == ("too_large", None, True)
        rows = pool.rows("SELECT key, attempts FROM results")
        assert sorted(row["key"] for row in rows) == sorted([*keys, *(job.id or "" for job in fine), "later"])
        assert {row["attempts"] for row in rows} == {1}, "a replay starts over"
        check_history(pool, keys)
        check_times(pool, replayed_at)


def check_times(pool: RunningPool, replayed_at: datetime) -> None:
    """A replayed message waits since its replay, and is one message in the report's shares."""
    replayed = pool.rows("SELECT published_at FROM results WHERE key LIKE 'soon-%'")
    assert all(row["published_at"] >= replayed_at - timedelta(milliseconds=1) for row in replayed)
    file = pool.loaded.settings.results
    run = read_run(lambda sql: read_only_query(file, sql).to_pylist(), file.name)
    assert (run.done, run.dead, run.dead_messages) == (2 * REFUSED + 1, REFUSED + 3, 1)


async def publish_large(pool: RunningPool) -> None:
    """A message beyond the limit of 16 MiB."""
    message = EncodedMessage(body=b"x" * LARGE, message_id="large", routing_key=pool.loaded.settings.queue)
    async with Publisher(compose.publisher(pool.loaded.settings)) as publisher:
        await publisher.publish_message(message)


def check_history(pool: RunningPool, keys: list[str]) -> None:
    """Every death is in the table; the second one of `later` shows that it was replayed, and its first time."""
    graves = pool.rows(
        "SELECT key, reason, first_seen, headers FROM dead_letters WHERE key IS NOT NULL ORDER BY key, dead_at"
    )
    assert sorted(row["key"] for row in graves) == sorted([*keys, "later", "later"])
    assert {row["reason"] for row in graves} == {"permanent"}
    first, second = (row for row in graves if row["key"] == "later")
    headers = json.loads(second["headers"])
    assert h.REPLAYS not in json.loads(first["headers"])
    assert (headers[h.REPLAYS], headers[h.ATTEMPT], headers[h.KEY]) == (1, 0, "later")
    assert headers[h.ORIGIN] == pool.loaded.settings.queue
    assert second["first_seen"] == first["first_seen"]
