"""One message's story: its steps, from rows and from a results file."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from rabbitray.actors.store.read_only import read_only_query
from rabbitray.cluster.results.message_story import SETTLED_DONE, Whereabouts, stories, unrecorded
from tests.kit.command_line import Run, runner
from tests.kit.recorded import kept_results, unpack_results, version_of
from tests.kit.results_file import eventful_file
from tests.kit.store_rows import sql_in_a_process
from tests.kit.stories import whats

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


def test_the_time_of_a_replay_is_told_as_such() -> None:
    times = {name: at(700 + later) for later, name in enumerate(["published_at", "received_at", "started_at"])}
    (story,) = stories([result(**times, finished_at=at(703), committed_at=at(704))], [grave()])
    assert whats(story)[:5] == ["first seen", "parked", "recorded", "replayed", "received"]


def conflict(**own: Any) -> dict[str, Any]:
    row = {"key": "order-7", "message_id": "m-9", "queue": "orders", "worker": "w-1", "recorded_at": at(60)}
    return row | own


def test_another_message_under_the_key_is_told_beside_the_one_that_has_the_result() -> None:
    (story,) = stories([result()], [], [conflict(), conflict(message_id=None, recorded_at=at(5))])
    assert whats(story)[-3:] == ["conflict", "conflict", "settled"]
    assert [step.detail.partition(",")[0] for step in story.steps[-3:-1]] == ["a message without an id", "message m-9"]
    assert (story.ended, story.message_ids) == ("done", ("m-2",))
    assert stories([], [], [conflict()]) == []


def failed(attempts: int, seconds: float, **own: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "key": "order-7",
        "message_id": "m-1",
        "queue": "orders",
        "attempts": attempts,
        "reason": "exception",
        "error": "the shop is closed",
        "error_class": "ConnectionError",
        "traceback": "jobs.py:7 in handle: open_shop()",
        "raised_in": "jobs.py:7",
        "worker": "orders-worker-0001",
        "recorded_at": at(seconds),
    }
    return row | own


def test_the_runs_that_failed_before_are_told_in_order_with_their_tracebacks() -> None:
    (story,) = stories([result(attempts=3)], [], [], [failed(1, 0.5), failed(2, 1.5, traceback=None, raised_in=None)])
    assert whats(story) == ["published", "failed", "failed", "received", "started", "finished", "committed", "settled"]
    first, second = story.steps[1:3]
    assert first.detail == "run 1 on orders-worker-0001, raised in jobs.py:7: ConnectionError: the shop is closed"
    assert (first.traceback, second.traceback) == ("jobs.py:7 in handle: open_shop()", None)
    assert (story.ended, story.message_ids) == ("done", ("m-2", "m-1"))


def test_the_run_that_ended_as_a_dead_letter_is_told_once() -> None:
    last = {"error": "the shop is closed", "traceback": "jobs.py:9 in handle"}
    runs = [failed(n, n / 10) for n in (1, 2, 3)]
    (story,) = stories([], [grave(**last)], [], runs)
    assert whats(story) == ["first seen", "failed", "failed", "parked", "recorded", "settled"]
    assert story.steps[3].traceback == "jobs.py:9 in handle"
    (story,) = stories([], [grave(error="another one")], [], runs)
    assert whats(story).count("failed") == 3


def test_a_job_that_runs_again_has_a_story_already() -> None:
    (story,) = stories([], [], [], [failed(n, n) for n in range(1, 6)])
    assert (story.ended, story.attempts) == ("to run again", 5)
    assert whats(story) == ["failed", "failed", "failed", "waits"], "the last three"
    assert story.steps[0].detail.startswith("run 3 on")


def test_from_the_file_with_its_tracebacks(rabbitray: Run, tmp_path: Path) -> None:
    file = eventful_file(tmp_path / "results.duckdb")
    frames = "shop/jobs.py:9 in handle: charge(job)\nshop/cards.py:31 in charge: raise Busy"
    sql_in_a_process(file, f"UPDATE dead_letters SET traceback = '{frames}' WHERE key = 'dead-4'", "CHECKPOINT")
    (story,) = rabbitray("trace", "job-40", "--results", str(file), "--json").json
    runs = [step for step in story["steps"] if step["what"] == "failed"]
    assert [(step["detail"], step["traceback"]) for step in runs] == [
        ("run 1 on orders-worker-0001, raised in shop/cards.py:31: ConnectionError: refused 1", frames)
    ]
    drawn = rabbitray("trace", "dead-4", "--results", str(file)).out.splitlines()
    assert [line.split("── ")[-1] for line in drawn if ".py:" in line] == frames.splitlines()


def test_from_the_file_a_later_message_is_found_by_its_own_id(rabbitray: Run, tmp_path: Path) -> None:
    file = eventful_file(tmp_path / "results.duckdb")
    sql_in_a_process(file, "UPDATE conflicts SET message_id = 'real' WHERE payload_hash = 3", "CHECKPOINT")
    (story,) = rabbitray("trace", "real", "--results", str(file), "--json").json
    assert story["key"] == "job-3"
    assert [step["what"] for step in story["steps"]].count("conflict") == 2


@pytest.mark.parametrize("archive", [one for one in kept_results() if version_of(one) <= 2], ids=lambda one: one.name)
def test_from_a_file_of_an_earlier_schema_version(rabbitray: Run, archive: Path, tmp_path: Path) -> None:
    file = unpack_results(archive, tmp_path)
    key = read_only_query(file, "SELECT key FROM results WHERE key IS NOT NULL LIMIT 1")["key"][0].as_py()
    assert rabbitray("trace", key, "--results", str(file), "--json").json[0]["key"] == key
    [dead] = read_only_query(file, "SELECT id FROM dead_letters WHERE reason = 'rejected' LIMIT 1").to_pylist()
    assert rabbitray("dlq", "show", dead["id"], "--results", str(file), "--json").json["reason"] == "rejected"


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
