"""`rabbitray dlq`: what was given up, and its way back."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any

import aio_pika
import pyarrow as pa
import pytest

from rabbitray.actors.errors import ConfigurationError, PublishTimeoutError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.rows import DEAD_LETTER_SCHEMA
from rabbitray.actors.publisher import EncodedMessage, Publisher, PublisherConfig
from rabbitray.actors.rabbitmq.inspect import contact
from rabbitray.actors.secret import Secret
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.store import Store
from rabbitray.cluster.results.dead_letter_replay import Replay, ReplayPlan
from rabbitray.cluster.results.dead_letter_selection import Selection
from tests.kit.command_line import Run, runner
from tests.kit.hostile import FORGED, TEXTS, unfit
from tests.kit.queue_access import declare, depth, drained
from tests.kit.raw_amqp import BEYOND, properties, publish, scalar, table

DEAD = "jobs.dead"
NOW_MS = 1_760_000_000_000


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], amqp_url: str) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RABBITMQ_URL", amqp_url)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    return runner(capfd)


async def _park(url: str, *dead: dict[str, Any], body: bytes = b'{"i":"x","t":"B"}') -> None:
    """Dead letters as the router parks them, one for each table of headers."""
    await declare(url, "jobs")
    await declare(url, DEAD)
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        for number, headers in enumerate(dead):
            message = aio_pika.Message(
                body, message_id=f"copy-{number}", content_type="application/json", headers=headers
            )
            await channel.default_exchange.publish(message, DEAD)


def _died(key: str, error_class: str, **more: Any) -> dict[str, Any]:
    return {h.KEY: key, h.ERROR_CLASS: error_class, h.ATTEMPT: 6, h.FIRST_SEEN: NOW_MS, h.ERROR: "no", **more}


async def _replayed(url: str, plan: ReplayPlan, publisher: Any = None) -> Any:
    config = PublisherConfig(url=url, queue="jobs")
    async with contact(Secret(url), within_s=5) as connection, Publisher(config) as own:
        return await Replay(connection, publisher or own, queue="jobs", dead_queue=DEAD).run(plan)


async def _store(path: Path, *dead: dict[str, object]) -> None:
    store = Store(StoreConfig(path=path))
    await store.open()
    rows = [dict.fromkeys(DEAD_LETTER_SCHEMA.names) | {"queue": "jobs", "category": "permanent"} | row for row in dead]
    await store.record_dead_letters(await store.register("test"), pa.Table.from_pylist(rows, DEAD_LETTER_SCHEMA))
    await store.close()


# the queue


async def test_a_replay_keeps_identity_and_history_and_starts_over(amqp_url: str) -> None:
    death = {"x-death": [{"reason": "rejected", "count": 1}], "x-first-death-queue": "jobs"}
    await _park(amqp_url, _died("k1", "ValueError", mine="kept", **{h.ORIGIN: "jobs", h.REPLAYS: 1}) | death)
    found = await _replayed(amqp_url, ReplayPlan(selection=Selection()))
    assert (found.replayed, found.failed, dict(found.classes)) == (1, 0, {"ValueError": 1})
    assert await depth(amqp_url, DEAD) == 0
    [message] = await drained(amqp_url, "jobs")
    assert message.body == b'{"i":"x","t":"B"}'
    assert message.message_id == "copy-0"
    assert message.headers == {
        h.KEY: "k1", h.ATTEMPT: 0, h.REPLAYS: 2, h.FIRST_SEEN: NOW_MS, h.ORIGIN: "jobs", "mine": "kept",
        h.REPLAYED: message.headers[h.REPLAYED],
    }  # fmt: skip


async def test_only_what_is_selected_is_replayed_and_the_rest_stays_as_it_was(amqp_url: str) -> None:
    await _park(
        amqp_url,
        _died("old", "TimeoutError", **{h.FIRST_SEEN: NOW_MS - 10}),
        _died("other", "ValueError"),
        _died("young", "builtins.TimeoutError"),
        _died("looping", "TimeoutError", **{h.REPLAYS: 10}),
    )
    chosen = Selection(error_class="TimeoutError", seen_after_ms=NOW_MS)
    found = await _replayed(amqp_url, ReplayPlan(selection=chosen))
    assert (found.looked_at, found.replayed, found.returned) == (4, 1, 3)
    assert [message.headers[h.KEY] for message in await drained(amqp_url, "jobs")] == ["young"]
    left = {message.headers[h.KEY]: message for message in await drained(amqp_url, DEAD)}
    assert set(left) == {"old", "other", "looping"}
    assert left["other"].headers.get(h.ATTEMPT) == 6


async def test_a_dry_run_and_a_limit(amqp_url: str) -> None:
    await _park(amqp_url, *(_died(f"k{number}", "ValueError") for number in range(5)))
    dry = await _replayed(amqp_url, ReplayPlan(selection=Selection(), dry=True))
    assert (dict(dry.classes), dry.replayed, await depth(amqp_url, "jobs")) == ({"ValueError": 5}, 0, 0)
    some = await _replayed(amqp_url, ReplayPlan(selection=Selection(), limit=2))
    assert (some.replayed, await depth(amqp_url, DEAD), await depth(amqp_url, "jobs")) == (2, 3, 2)


class _Refusing:
    """A publisher whose confirms do not come."""

    async def publish_message(self, message: EncodedMessage) -> None:
        raise PublishTimeoutError("no confirm within 5 s")


async def test_what_is_not_confirmed_stays_a_dead_letter(amqp_url: str) -> None:
    await _park(amqp_url, _died("k1", "ValueError"), _died("k2", "ValueError"))
    found = await _replayed(amqp_url, ReplayPlan(selection=Selection()), _Refusing())
    assert (found.replayed, found.failed, found.errors) == (0, 2, ["no confirm within 5 s"])
    assert await depth(amqp_url, DEAD) == 2


async def test_a_missing_dead_letter_queue_is_named(amqp_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no dead-letter queue 'jobs\.dead'"):
        await _replayed(amqp_url, ReplayPlan(selection=Selection()))


# the commands


def test_ls_groups_by_class_and_fingerprint(run: Run, tmp_path: Path) -> None:
    at = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    texts = ["order 17 not found", "order 4711 not found", "bad id 0191f5a0-7b1c-7c3d-8e2f-0123456789ab\nTraceback"]
    dead = [
        {"key": f"k{number}", "error": text, "error_class": "LookupError", "reason": "permanent", "dead_at": at}
        for number, text in enumerate(texts)
    ]
    asyncio.run(_store(tmp_path / "results.duckdb", *dead))
    found = run("dlq", "ls", "--json").json
    assert [(one["count"], one["error"]) for one in found["groups"]] == [
        (2, "order <n> not found"),
        (1, "bad id <id>"),
    ]
    assert found["waiting"] is None
    assert "order <n> not found" in run("dlq", "ls").out


def test_show_reads_the_body_of_one(run: Run, tmp_path: Path) -> None:
    body = b'{"i":"abc","t":"B","u":"u1","p":{"a":1}}'
    asyncio.run(_store(tmp_path / "results.duckdb", {"key": "k'1", "body": body, "content_type": h.JOB_JSON,
                                                     "headers": '{"x":1}', "error": "no"}))  # fmt: skip
    found = run("dlq", "show", "k'1", "--json").json
    assert found["jobs"][0]["payload"] == {"a": 1}
    assert found["headers"] == {"x": 1}
    assert run("dlq", "show", found["id"][:8]).code == 0
    missing = run("dlq", "show", "nothing")
    assert missing.code == 2
    assert "no dead letter has the id" in missing.err


def test_show_reads_an_unmarked_body_as_the_pool_does(run: Run, tmp_path: Path) -> None:
    """By the setting, or by the header that the publisher of an earlier version stamped."""
    row = {"body": b'{"i":"abc","t":"B","r":0,"p":{"a":1}}', "content_type": "application/json", "error": "no"}
    rows = [row | {"key": "own"}, row | {"key": "stamped", "headers": json.dumps({h.PUBLISHED: 1_767_355_200_000})}]
    asyncio.run(_store(tmp_path / "results.duckdb", *rows))
    assert run("dlq", "show", "own", "--json").json["jobs"] == [
        {"payload": {"i": "abc", "t": "B", "r": 0, "p": {"a": 1}}}
    ]
    assert run("dlq", "show", "stamped", "--json").json["jobs"] == [
        {"id": "abc", "message_type": "BIRTHDAY", "payload": {"a": 1}}
    ]


@pytest.mark.parametrize(("encoding", "told"), [("gzip", "gzip"), ("x-gzip", "x-gzip"), (None, None)])
def test_show_reads_a_compressed_body_and_keeps_it_as_it_came(
    run: Run, tmp_path: Path, encoding: str | None, told: str | None
) -> None:
    """A row of an earlier version does not tell its encoding."""
    plain = b'{"i":"abc","t":"B","u":"u1","p":{"a":1}}'
    body = gzip.compress(plain)
    row = {"key": "k", "body": body, "content_type": h.JOB_JSON, "content_encoding": encoding, "error": "no"}
    asyncio.run(_store(tmp_path / "results.duckdb", row))
    found = run("dlq", "show", "k", "--json").json
    assert (found["content_encoding"], found["body_bytes"], found["plain_bytes"]) == (told, len(body), len(plain))
    assert found["jobs"][0]["payload"] == {"a": 1}
    assert "body_hex" not in found
    assert run("dlq", "show", "k", "--raw", "--json").json["body_hex"] == body.hex()


@pytest.mark.parametrize(
    ("body", "encoding", "shown"),
    [
        (gzip.compress(b"not a {document"), "gzip", {"text": "not a {document", "plain_bytes": 15}),
        (gzip.compress(b"cut off")[:-4], "gzip", {"hex": gzip.compress(b"cut off")[:-4].hex()}),
        (b"plain", "br", {"text": "plain"}),
    ],
    ids=["no document", "cut off", "unknown encoding"],
)
def test_show_says_why_it_cannot_read_a_body(
    run: Run, tmp_path: Path, body: bytes, encoding: str, shown: dict[str, Any]
) -> None:
    row = {"key": "k", "body": body, "content_type": "application/json", "content_encoding": encoding, "error": "no"}
    asyncio.run(_store(tmp_path / "results.duckdb", row))
    found = run("dlq", "show", "k", "--json").json
    assert found["unreadable"]
    assert {name: found.get(name) for name in shown} == shown


def test_ls_groups_by_the_line_that_raised_the_error(run: Run, tmp_path: Path) -> None:
    def dead(key: str, error: str, raised_in: str | None = "jobs.py:7") -> dict[str, object]:
        return {"key": key, "error_class": "ValueError", "reason": "permanent", "error": error, "raised_in": raised_in}

    rows = [dead("a", "no Ann"), dead("b", "no Bob"), dead("c", "no Ann", "jobs.py:9"), dead("d", "no Ann", None)]
    asyncio.run(_store(tmp_path / "results.duckdb", *rows, dead("e", "no 7", None), dead("f", "no 8", None)))
    groups = run("dlq", "ls", "--json").json["groups"]
    assert sorted((g["raised_in"] or "", g["count"], g["texts"], g["error"]) for g in groups) == [
        ("", 1, 1, "no Ann"),
        ("", 2, 1, "no <n>"),
        ("jobs.py:7", 2, 2, groups[0]["error"]),
        ("jobs.py:9", 1, 1, "no Ann"),
    ]
    assert len({group["fingerprint"] for group in groups}) == 4
    assert "jobs.py:7" in run("dlq", "ls").out


def test_show_has_the_traceback_line_by_line(run: Run, tmp_path: Path) -> None:
    frames = "jobs.py:7 in handle: look_up()\njobs.py:3 in look_up: raise ValueError"
    asyncio.run(_store(tmp_path / "results.duckdb", {"key": "k", "error": "no", "traceback": frames}))
    assert run("dlq", "show", "k", "--json").json["traceback"] == frames
    shown = run("dlq", "show", "k").out.splitlines()
    first = next(n for n, line in enumerate(shown) if line.startswith("traceback"))
    assert [line.strip() for line in shown[first : first + 2]] == [
        "traceback      jobs.py:7 in handle: look_up()",
        "jobs.py:3 in look_up: raise ValueError",
    ]


def test_show_says_of_a_body_that_was_too_large_where_it_is(run: Run, tmp_path: Path) -> None:
    error = "body of 41,943,040 bytes, at most 16,777,216; its body of 41,943,040 bytes is in jobs.dead only"
    asyncio.run(_store(tmp_path / "results.duckdb", {"key": "k", "reason": "too_large", "error": error}))
    found = run("dlq", "show", "k", "--json").json
    assert (found["error"], found["body_bytes"]) == (error, None)
    shown = run("dlq", "show", "k")
    assert (shown.code, "not in the results: `error` says how large it is and where" in shown.out) == (0, True)


async def test_a_letter_that_was_too_large_is_replayed_with_every_byte(amqp_url: str) -> None:
    body = bytes(range(256)) * 80_000
    await _park(amqp_url, _died("large", "RefusedMessage"), _died("other", "ValueError"), body=body)
    found = await _replayed(amqp_url, ReplayPlan(selection=Selection(error_class="RefusedMessage")))
    assert (found.replayed, found.returned, found.failed) == (1, 1, 0)
    [message] = await drained(amqp_url, "jobs")
    assert message.body == body


def test_what_a_stranger_named_is_replayed_and_told_printable(run: Run, amqp_url: str) -> None:
    """Keys and error classes of the queue, with and without `--json`, also where the queue itself has such a name."""
    dead = [_died(f"{number}{text}"[:100], text[:100], **{"x-own": text}) for number, text in enumerate(TEXTS)]
    asyncio.run(_park(amqp_url, *dead, body=b"\x1b[2J\xff"))
    classes = {text[:100] for text in TEXTS}
    for dry in (("--dry-run",), ()):
        told = run("dlq", "replay", "--all", "--limit", "11", *dry)
        assert (told.code, unfit(told.out + told.err), FORGED in told.out.split("\n")) == (0, set(), False)
        ran = run("dlq", "replay", "--all", "--limit", "11", "--json", *dry)
        assert (ran.code, unfit(ran.out), ran.json["classes"].keys() <= classes) == (0, set(), True)
    lost = run("dlq", "replay", "--all", "--queue", "\x1b[2J\u202e")
    assert (lost.code, unfit(lost.err), lost.err.count("\n")) == (2, set(), 1)


def test_replay_and_purge_as_commands(run: Run, amqp_url: str, tmp_path: Path) -> None:
    asyncio.run(_store(tmp_path / "results.duckdb", {"key": "k2", "error": "no"}))
    asyncio.run(_park(amqp_url, *(_died(f"k{number}", "ValueError") for number in range(1, 6))))
    row = run("query", "SELECT id FROM dead_letters", "--json").json[0]["id"]
    by_id = run("dlq", "replay", row, "--json")
    assert (by_id.code, by_id.json["replayed"], by_id.json["looked_at"]) == (0, 1, 5)
    assert run("dlq", "replay", "unknown").code == 1
    assert (
        run("dlq", "replay", "--class", "ValueError", "--limit", "2", "--rate", "100", "--json").json["replayed"] == 2
    )
    odd = properties(table({b"when": scalar("T", BEYOND[0])}), b"odd")
    asyncio.run(publish(amqp_url, DEAD, [(odd, b"x"), (odd, b"y")]))
    assert "1 of them without the headers that could not be read" in run("dlq", "replay", "odd", "--limit", "1").out
    assert run("dlq", "replay", "odd", "--json").json["without_unreadable_headers"] == 1
    refused = run("dlq", "purge")
    assert refused.code == 2
    assert "would delete 2 messages of jobs.dead" in refused.err
    assert run("dlq", "purge", "--yes", "--json").json == {"queue": DEAD, "purged": 2}
    assert asyncio.run(depth(amqp_url, "jobs")) == 3 + 2
