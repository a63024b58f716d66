"""An upgrade: this version works what the pool of an earlier one left in queue, rungs and dead letters, counted by id.

Each recording (`record_upgrade.py`) is declared and published by a client that knows nothing of rabbitray, with the
arguments, properties and bodies of then, beside the results file of then. The pool has the setting for the
change-over, since other clients than ours were among the producers; what our own sent needs none, which
`tests/broker/test_own_documents.py` tests.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rabbitray.actors.message import headers as h
from rabbitray.cluster.driver import compose
from tests.kit.dlq_command import dlq
from tests.kit.eventually import eventually
from tests.kit.pool_settings import settings_for
from tests.kit.queue_access import depth, drained
from tests.kit.recorded import KEPT, Recording, read, recordings, restore, unpack_results
from tests.kit.running_pool import RunningPool, pool_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_there_is_a_recording_of_each_queue_type() -> None:
    """And in each: messages in the main queue, in every rung, in the dead letters and in what the broker dropped."""
    kinds = set()
    for path in recordings():
        recording = read(path)
        kinds.add(recording.settings["queue_type"])
        assert {left.queue for left in recording.messages} == {queue["name"] for queue in recording.queues}
        assert len(recording.messages) > 50
    assert kinds == {"quorum", "classic"}


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.long] if "classic" in path.stem else []) for path in recordings()],
    ids=lambda path: path.stem,
)
async def test_what_an_earlier_version_left_is_worked(amqp_url: str, tmp_path: Path, path: Path) -> None:
    recording = read(path)
    results = unpack_results(KEPT / recording.results, tmp_path)
    restore(amqp_url, recording)
    loaded = settings_for(amqp_url, tmp_path, **recording.settings, results=results, message_format="report")
    endings = recording.expected.values()
    dead_letters = sum(bool(ending.first) for ending in endings)
    at_once = sum(ending.ends == "done" and not ending.first for ending in endings) + recording.nameless
    for_good = sum(ending.ends != "done" for ending in endings)
    async with pool_of(loaded) as pool:
        await eventually(lambda: at_rest(pool, done=at_once, dead=dead_letters), within_s=60)
        replayed = await dlq(pool, "replay", "--all")
        assert (replayed["replayed"], replayed["failed"], replayed["errors"]) == (dead_letters, 0, [])
        all_done = at_once + dead_letters - for_good
        await eventually(lambda: at_rest(pool, done=all_done, dead=for_good), within_s=60)
        report = await pool.report()
        await pool.stop()
    assert report.counts.duplicates == len(recording.again), "what was finished then is not worked again"
    check_rows(pool, recording)
    check_dead(await drained(amqp_url, compose.topology(loaded.settings).dead_queue), pool, recording)


async def at_rest(pool: RunningPool, *, done: int, dead: int) -> bool:
    """So many are done in this pool and so many in the dead-letter queue; nothing is in hand or in another queue."""
    topology, url = compose.topology(pool.loaded.settings), pool.loaded.settings.rabbitmq_url.reveal()
    report = await pool.report()
    counted = (report.counts.done, await depth(url, topology.dead_queue)) == (done, dead)
    return counted and not report.pool.held and await pool.empty() and not await depth(url, topology.dropped_queue)


def check_rows(pool: RunningPool, recording: Recording) -> None:
    """One row for each key, those of the earlier version among them, each with its attempts."""
    rows = pool.rows("SELECT key, attempts, committed_at FROM results ORDER BY seq")
    found = Counter(row["key"] for row in rows)
    done = [key for key, ending in recording.expected.items() if ending.ends == "done"]
    assert found == Counter([*recording.finished, *done, *[None] * recording.nameless])
    attempts = {row["key"]: row["attempts"] for row in rows}
    assert {key: attempts[key] for key in done} == {key: recording.expected[key].attempts for key in done}


def check_dead(left: list[Any], pool: RunningPool, recording: Recording) -> None:
    """What cannot be worked is in the dead letters once, with its reason, in the queue and in the table."""
    dead = {key: ending for key, ending in recording.expected.items() if ending.ends != "done"}
    in_queue = [(str(one.headers.get(h.KEY, one.message_id)), str(one.headers[h.REASON])) for one in left]
    assert sorted(in_queue) == sorted((key, ending.ends) for key, ending in dead.items())
    assert {one.headers[h.REPLAYS] for one in left} == {1}
    # What RabbitMQ dropped nobody has read: where its producer wrote no key beside the body, the row has none.
    named = pool.rows("SELECT coalesce(key, message_id) AS key, reason FROM dead_letters")
    found_dead = Counter((row["key"], row["reason"]) for row in named)
    first = {(key, ending.first) for key, ending in recording.expected.items() if ending.first}
    again = {(key, ending.ends) for key, ending in dead.items()}
    assert set(found_dead) == first | again, "also those whose row the earlier version has written"
    assert all(found_dead[grave] == 2 for grave in first & again)
