"""No command prints the broker's password, whatever it is made of, and however the command ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from rabbitray.cluster.broker import PrivateBroker
from tests.kit.canary import Canary, canary_url, new_canary
from tests.kit.command_line import Run
from tests.kit.queue_access import declare
from tests.kit.results_file import empty_file

COMMANDS = (
    ("config",),
    ("config", "--json"),
    ("check", "--no-ray"),
    ("check", "--no-ray", "--json", "--handler", "careless:handle"),
    ("publish", "--generate", "3", "--create"),
    ("publish", "--generate", "3", "--queue", "missing"),
    ("dlq", "ls"),
    ("dlq", "ls", "--json"),
    ("dlq", "replay", "--all", "--json"),
    ("dlq", "purge"),
    ("dlq", "purge", "--yes"),
    ("dlq", "show", "nobody"),
    ("trace", "nobody"),
    ("query", "SELECT count(*) FROM results"),
    ("query", "SELECT nothing FROM results"),
    ("export", "out"),
    ("report", "--out", "out.html"),
    ("plan", "--rate", "10", "--service", "0.1s"),
    ("run", "--handler", "careless:handle"),
    ("status",),
    ("pause",),
    ("resume",),
    ("scale", "2"),
    ("drain",),
    ("top", "--once"),
)


@pytest.fixture
def canary() -> Canary:
    return new_canary()


@pytest.fixture
def url(broker: PrivateBroker, amqp_url: str, canary: Canary) -> Iterator[str]:
    with canary_url(broker, amqp_url, canary) as url:
        yield url


@pytest.fixture
def url_file(url: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the commands of `run` know the broker by."""
    file = tmp_path / "url"
    file.touch(mode=0o600)
    file.write_text(url)
    monkeypatch.delenv("RABBITMQ_URL")
    monkeypatch.setenv("RABBITMQ_URL_FILE", str(file))
    return file


def write_handler(folder: Path, error: str) -> None:
    """A module whose import fails with that text."""
    (folder / "careless.py").write_text(f"raise OSError({error!r})")


def test_no_command_prints_the_password(run: Run, url: str, url_file: Path, canary: Canary) -> None:
    folder = url_file.parent
    other = f"amqp://other:{canary.word}%2F-2@127.0.0.1:1/"
    url_file.write_text(f"{other}\n{url}\n")
    empty_file(folder / "results.duckdb")
    asyncio.run(declare(url, "jobs.dead"))
    write_handler(folder, f"{canary.careless(url)} {canary.careless(other)}")
    ran = {arguments: run(*arguments) for arguments in COMMANDS}
    assert [arguments for arguments, found in ran.items() if canary.word in found.out + found.err] == []
    assert ran[("publish", "--generate", "3", "--create")].code == 0, "the password is the right one"
    assert "login accepted" in ran[("check", "--no-ray")].out
    assert "RabbitMQ at 127.0.0.1:1/ (URL 1): " in ran[("check", "--no-ray")].out
    assert "amqp://***@127.0.0.1:1/" in ran[("config",)].out
    assert "amqp://***@127.0.0.1:1/ amqp://***@127.0.0.1:" in ran[("config", "--json")].out
    assert "cannot reach amqp://127.0.0.1:" in ran[("run", "--handler", "careless:handle")].err
    assert not [arguments for arguments, found in ran.items() if "Traceback" in found.err]
    files = (file for file in folder.rglob("*") if file.is_file())
    assert {file.name for file in files if canary.word.encode() in file.read_bytes()} == {"url", "careless.py"}


@pytest.mark.parametrize("arguments", [("publish", "--generate", "1"), ("check", "--no-ray"), ("dlq", "ls")])
def test_a_refused_password_is_not_printed(
    run: Run, url: str, url_file: Path, canary: Canary, arguments: tuple[str, ...]
) -> None:
    empty_file(url_file.parent / "results.duckdb")
    url_file.write_text(url.replace(canary.word, f"{canary.word}-wrong"))
    ran = run(*arguments)
    assert "login refused" in ran.out + ran.err
    assert canary.word not in ran.out + ran.err


@pytest.mark.parametrize("between", ["/", "?", "#", "/@", "[", "1/", "\\"])
def test_a_url_whose_password_is_not_encoded_is_refused_without_it(run: Run, url_file: Path, between: str) -> None:
    url_file.write_text(f"amqp://user:1{between}canary@127.0.0.1:1/")
    ran = run("publish", "--generate", "1")
    assert (ran.code, ran.out) == (2, "")
    assert "must be amqp:// or amqps:// and user:password@host:port/vhost" in ran.err
    assert "canary" not in ran.err
