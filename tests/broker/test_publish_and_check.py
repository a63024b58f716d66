"""`rabbitray publish` and `rabbitray check` against a real node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import aio_pika
import pytest

from tests.kit.command_line import Run
from tests.kit.queue_access import declare, depth
from tests.kit.root import ROOT


def test_wrong_credentials_are_one_line_without_them(run: Run, amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_URL", amqp_url.replace("guest:guest", "guest:wr0ng-secret"))
    ran = run("publish", "--generate", "1")
    assert ran.code == 2
    assert "login refused" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert "wr0ng-secret" not in ran.err


# publish


def test_publish_does_not_create_a_queue_silently(run: Run, amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_URL", amqp_url)
    ran = run("publish", "--generate", "5")
    assert ran.code == 2
    assert "queue 'jobs' does not exist" in ran.err
    assert "--create" in ran.err
    created = run("publish", "--generate", "5", "--create", "--json")
    assert created.code == 0
    assert created.json["published"] == 5


async def test_publish_lines_of_both_forms_and_report_the_bad_ones(
    amqp_url: str,
) -> None:
    await declare(amqp_url, "jobs")
    lines = '{"i":"a","t":"B","u":"u1"}\nnope\n\n{"messageId":"b","messageType":"BIRTHDAY","userId":"u2"}\n[1]'
    ran = _program(amqp_url, "publish", "--json", stdin=lines)
    assert ran.returncode == 1
    found = json.loads(ran.stdout)
    assert (found["published"], found["bad_lines"]) == (2, 2)
    assert "line 2: bad_json" in ran.stderr
    assert "line 5: " in ran.stderr
    assert await depth(amqp_url, "jobs") == 2


async def test_publish_strict_stops_at_the_first_bad_line(amqp_url: str) -> None:
    await declare(amqp_url, "jobs")
    ran = _program(amqp_url, "publish", "--strict", stdin='{"i":"a","t":"B"}\nnope\n{"i":"c","t":"B"}\n')
    assert ran.returncode == 1
    assert "stopped: line 2 is no job" in ran.stderr
    assert await depth(amqp_url, "jobs") == 1


async def test_publish_packed_puts_many_jobs_into_a_message(amqp_url: str) -> None:
    await declare(amqp_url, "jobs")
    ran = _program(amqp_url, "publish", "--generate", "1000", "--packed", "100", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["published"] == 1000
    assert await depth(amqp_url, "jobs") == 10


async def test_publish_reports_failures_by_kind(amqp_url: str) -> None:
    await declare(amqp_url, "jobs", x_max_length=3, x_overflow="reject-publish")
    ran = _program(amqp_url, "publish", "--generate", "40", "--json")
    assert ran.returncode == 1
    found = json.loads(ran.stdout)
    assert found["failed"]["refused"] == 40 - found["published"] > 0
    assert "refused" in found["errors"][0]


def test_check_finds_everything_well(run: Run, amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_URL", amqp_url)
    ran = run("check", "--no-ray", "--json")
    assert ran.code == 0
    assert {row["area"] for row in ran.json} >= {"packages", "settings", "broker", "results", "disk"}
    assert not [row for row in ran.json if row["level"] == "refuse"]


async def test_check_refuses_what_would_keep_a_pool_from_starting(
    amqp_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await declare(amqp_url, "jobs.retry.2000", x_message_ttl=5)
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        await channel.declare_exchange("dlx", aio_pika.ExchangeType.FANOUT, durable=True)
    monkeypatch.setenv("RABBITRAY_DEAD_LETTER_EXCHANGE", "dlx")
    (tmp_path / "results.duckdb").write_text("no database, but longer than a header of DuckDB would be" * 100)
    ran = _program(amqp_url, "check", "--no-ray", "--json", "--results", str(tmp_path / "results.duckdb"))
    assert ran.returncode == 2
    refused = [row["text"] for row in json.loads(ran.stdout) if row["level"] == "refuse"]
    assert any("jobs.retry.2000" in text for text in refused)
    assert any("exchange 'dlx' exists with type='fanout'" in text for text in refused)
    assert any("is not a DuckDB file" in text for text in refused)


def _program(url: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The program as people start it, with standard input."""
    return subprocess.run(
        [sys.executable, "-m", "rabbitray", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "RABBITMQ_URL": url},
        check=False,
    )
