"""`rabbitray trace`: one message's story, from the file and through a running pool."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import Publisher
from rabbitray.cluster.commands.trace import stories_of, whereabouts
from rabbitray.cluster.driver import compose
from rabbitray.cluster.operate.running_pool import RunningPool as Reached
from rabbitray.cluster.results.message_story import SETTLED_DONE, Story, Whereabouts, stories, unrecorded
from rabbitray.cluster.results.reader import FileReader, PoolReader
from tests.command_line import Run, runner
from tests.pool import pool_of, settings_for
from tests.queue_access import declare
from tests.results_file import eventful_file

START = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


@pytest.fixture
def rabbitray(capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(capfd)


def at(seconds: float) -> dt.datetime:
    return START + dt.timedelta(seconds=seconds)


def result(**own: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "key": "order-7",
        "message_id": "m-2",
        "queue": "orders",
        "message_type": "BIRTHDAY",
        "status": "DONE",
        "attempts": 2,
        "published_at": at(0),
        "received_at": at(2.5),
        "started_at": at(2.6),
        "finished_at": at(2.7),
        "committed_at": at(2.71),
        "worker": "orders-worker-0003",
        "batch_id": "b1",
        "trace_id": "a" * 32,
    }
    return row | own


def grave(**own: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "key": "order-7",
        "message_id": "m-1",
        "queue": "orders",
        "message_type": "BIRTHDAY",
        "error": "no such user",
        "error_class": "ValueError",
        "category": "permanent",
        "reason": "permanent",
        "attempts": 3,
        "first_seen": at(0.1),
        "dead_at": at(1),
        "recorded_at": at(1.1),
        "worker": None,
        "trace_id": None,
        "id": "g1",
    }
    return row | own


def whats(story: Story) -> list[str]:
    return [step.what for step in story.steps]


def test_a_job_that_was_done_is_told_in_order() -> None:
    (story,) = stories([result()], [])
    assert whats(story) == ["published", "received", "started", "finished", "committed", "settled"]
    assert (story.ended, story.attempts, story.message_ids, story.trace_id) == ("done", 2, ("m-2",), "a" * 32)
    assert (story.steps[-1].at, story.steps[-1].detail) == (None, SETTLED_DONE.detail)  # never with a time of its own
    assert [step.after_ms for step in story.steps][1:-1] == pytest.approx([2500, 100, 100, 10])
    assert "run 2 on orders-worker-0003" in story.steps[2].detail


def test_a_replayed_dead_letter_is_one_story() -> None:
    (story,) = stories([result()], [grave()])
    assert story.ended == "done, after dead letters"
    assert whats(story)[:4] == ["published", "first seen", "parked", "recorded"]
    assert story.steps[2].detail == "permanent (permanent) after 3 runs: ValueError: no such user"
    assert story.message_ids == ("m-2", "m-1")


def test_one_key_in_two_queues_is_two_stories() -> None:
    assert {story.queue for story in stories([result(), result(queue="other")], [])} == {"orders", "other"}


def test_a_message_without_a_key_is_told_by_its_id() -> None:
    (story,) = stories([result(key=None)], [])
    assert (story.key, story.message_ids) == (None, ("m-2",))


def test_times_that_are_not_known_are_left_out() -> None:
    (story,) = stories([result(published_at=None, received_at=None)], [])
    assert whats(story) == ["started", "finished", "committed", "settled"]


def test_a_dead_letter_is_settled_after_its_record_and_its_copy() -> None:
    (story,) = stories([], [grave()])
    assert (whats(story)[-1], story.attempts) == ("settled", 3)
    assert "dead-letter queue" in story.steps[-1].detail


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (
            Whereabouts(queue="orders", ready=12, waiting=3, held=40),
            ("12 ready in orders", "3 in the rungs", "40 held"),
        ),
        (Whereabouts(queue="orders"), ("not known how many ready", "RabbitMQ cannot be asked for one message")),
        (Whereabouts(queue="orders", ready=0, waiting=0, held=0), ("was never published to orders",)),
    ],
)
def test_of_what_is_not_recorded_it_is_said_where_it_may_be(seen: Whereabouts, says: tuple[str, ...]) -> None:
    text = "\n".join(unrecorded("m-1", "file x", seen))
    assert all(one in text for one in (*says, "ask for the key")), text
    assert ("was never published" in text) == seen.empty


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(eventful_file(tmp_path_factory.mktemp("story") / "results.duckdb"))


def test_from_the_file_as_a_tree(rabbitray: Run, file: str) -> None:
    ran = rabbitray("trace", "job-40", "--results", file)
    assert ran.code == 0
    assert ran.out.startswith("job-40  orders  done")
    assert ran.out.splitlines()[-1].split()[:4] == ["└──", "settled", "acked", "to"]
    for word in (
        "attempts    3",
        "published",
        "received",
        "run 3 on orders-worker-0001, batch b0",
        "committed",
        "trace id",
    ):
        assert word in ran.out


def test_from_the_file_as_json(rabbitray: Run, file: str) -> None:
    (story,) = rabbitray("trace", "dead-4", "--results", file, "--json").json
    assert (story["ended"], story["queue"]) == ("dead", "orders")
    assert [step["what"] for step in story["steps"]] == ["first seen", "parked", "recorded", "settled"]
    assert story["attempts"] == 6


@pytest.mark.parametrize("name", ["job-none", "' OR '1'='1", "x'; DROP TABLE results; --"])
def test_what_is_not_recorded_is_said_and_no_broker_is_needed(
    rabbitray: Run, file: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", "amqp://127.0.0.1:1/")
    ran = rabbitray("trace", name, "--results", file)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("nothing is recorded about")
    assert "not known how many ready" in ran.err
    assert "Traceback" not in ran.err


async def test_a_message_in_a_retry_rung_is_counted_there(amqp_url: str, tmp_path: Path) -> None:
    loaded = settings_for(amqp_url, tmp_path)
    topology = compose.topology(loaded.settings)
    rung = topology.rung(topology.rung_delays_ms[1])  # the others do not exist: they hold none
    for name, count in ((topology.queue, 2), (rung, 1)):
        await declare(amqp_url, name)
        async with Publisher(replace(compose.publisher(loaded.settings), queue=name, routing_key=None)) as publisher:
            assert (await publisher.publish_many(Job(payload={}) for _ in range(count))).ok
    reader = FileReader(path=tmp_path / "results.duckdb")
    found = await asyncio.to_thread(whereabouts, loaded, reader)
    assert found == Whereabouts(queue=topology.queue, ready=2, waiting=1, held=0)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
async def test_live_through_a_running_pool(amqp_url: str, tmp_path: Path) -> None:
    """A job that needed a retry: its message id changed on the way, its key did not."""
    loaded = settings_for(amqp_url, tmp_path)
    async with pool_of(loaded) as pool:
        refused = [Job(id="bad", payload={"do": "reject"})]
        await pool.publish([Job(id="twice", payload={"do": "raise", "times": 1}), *refused])
        await pool.acked(3)
        reader = PoolReader(pool=Reached(name=loaded.settings.pool, namespace=loaded.settings.ray_namespace))
        (story,) = await asyncio.to_thread(stories_of, reader, "twice")
        assert (story.ended, story.key) == ("done", "twice")
        assert whats(story) == ["published", "received", "started", "finished", "committed", "settled"]
        assert story.attempts == 2
        assert "run 2 on" in story.steps[2].detail
        (copy,) = story.message_ids
        assert copy != "twice"
        assert await asyncio.to_thread(stories_of, reader, copy) == [story]
        (parked,) = await asyncio.to_thread(stories_of, reader, "bad")
        assert (parked.ended, whats(parked)[-2:]) == ("dead", ["recorded", "settled"])
        assert await asyncio.to_thread(whereabouts, loaded, reader) == Whereabouts(
            queue=loaded.settings.queue, ready=0, waiting=0, held=0
        )
