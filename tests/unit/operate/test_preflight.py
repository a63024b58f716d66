"""What `run` looks at before Ray is started: what would end it is found within moments, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import ray

from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.store.file import StoreLockedError
from rabbitray.cluster.driver import session
from rabbitray.cluster.operate.preflight import preflight
from rabbitray.cluster.settings import Loaded, load
from tests.kit.command_line import Run
from tests.kit.file_holder import holder_of
from tests.kit.results_file import empty_file
from tests.kit.root import ROOT
from tests.kit.store_rows import sql_in_a_process

HANDLER = "tests.kit.sample_handlers:plain"


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting Ray is the mistake that these tests look for."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray, "init", started)


def settings(results: Path, **more: object) -> Loaded:
    given: dict[str, object] = {
        "results": str(results),
        "connect_timeout_s": 0.3,
        "rabbitmq_url": "amqp://127.0.0.1:1/",
    }
    return load(given | more, {}, None)


def looked(loaded: Loaded) -> str:
    """The lines of what it raises."""
    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(preflight(loaded)())
    return str(caught.value)


def test_without_a_broker_no_ray_is_started_and_no_file_is_left(tmp_path: Path) -> None:
    """As a process of its own: within moments, in one line, without a child."""
    environ = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environ |= {"RABBITMQ_URL": "amqp://127.0.0.1:1/", "RAY_TMPDIR": str(tmp_path / "ray"), "PYTHONPATH": str(ROOT)}
    before = {process.pid for process in psutil.process_iter() if "raylet" in process.name()}
    began = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-m", "rabbitray", "run", "--handler", HANDLER, "--connect-timeout-s", "0.5"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    took_s = time.monotonic() - began
    assert ran.returncode == 2
    [line] = [line for line in ran.stderr.splitlines() if line.startswith("error")]
    assert line.startswith("error: RabbitMQ at amqp://127.0.0.1:1/ cannot be reached (tried for ")
    assert took_s < 20, f"{took_s:.1f} s, of which importing Ray takes most"
    assert not list(tmp_path.iterdir())
    assert {process.pid for process in psutil.process_iter() if "raylet" in process.name()} <= before


def test_the_results_file_is_looked_at_before_the_broker(run: Run, tmp_path: Path) -> None:
    (tmp_path / "results.duckdb").write_text("no DuckDB file at all, whatever its name may say")
    ran = run("run", "--handler", HANDLER)
    assert (ran.code, ran.err.count("error: ")) == (2, 1)
    assert "is not a DuckDB file" in ran.err


@pytest.mark.parametrize(
    ("decoder", "says"),
    [
        ("no.such:decode", "decoder 'no.such:decode': no module named 'no'"),
        ("tests.kit.sample_decoders:late", "is async or a generator"),
        ("celeri", "auto, json, msgpack, cbor, text, bytes, celery, dramatiq, cloudevents, or module:attribute"),
    ],
)
def test_a_decoder_that_cannot_work_is_refused_in_one_line(run: Run, decoder: str, says: str) -> None:
    ran = run("run", "--handler", HANDLER, "--decoder", decoder)
    assert (ran.code, ran.err.count("error: ")) == (2, 1)
    assert says in ran.err


def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = empty_file(tmp_path / "results.duckdb")
    sql_in_a_process(path, "UPDATE store SET schema_version = 99", "CHECKPOINT")
    assert "has schema version 99" in looked(settings(path))


def test_a_file_that_another_process_holds_is_waited_for_and_then_refused(tmp_path: Path) -> None:
    path = empty_file(tmp_path / "results.duckdb")
    with holder_of(path) as holder:
        began = time.monotonic()
        with pytest.raises(StoreLockedError, match=str(holder.pid)):
            asyncio.run(preflight(settings(path, results_lock_timeout_ms=400))())
        assert time.monotonic() - began >= 0.4


def test_a_folder_that_cannot_be_written_and_a_full_disk_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        assert "cannot be created: no right to write in" in looked(settings(tmp_path / "results.duckdb"))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1024**2))
    assert "1 MiB free in" in looked(settings(tmp_path / "results.duckdb"))


def test_a_file_that_may_only_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = empty_file(tmp_path / "results.duckdb")
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    assert "cannot be written" in looked(settings(path))


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        (
            Exception("The current node timed out during startup. This could happen because some of the raylet failed"),
            "Ray did not start: The current node timed out during startup",
        ),
        (RuntimeError("Version mismatch:\n  Ray: 2.54\n  Python: 3.11"), "Ray did not start: "),
        (ray.exceptions.RaySystemError("out of memory"), "Ray did not start: "),
    ],
)
def test_a_ray_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch, raised: Exception, says: str) -> None:
    def fails(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(ray, "init", fails)
    loaded = load({"rabbitmq_url": "amqp://127.0.0.1:1/"}, {}, None)
    for start in (session.connect, session.join):
        with pytest.raises(RabbitrayError) as caught:
            start(loaded.settings)
        line = str(caught.value)
        assert "\n" not in line
        assert line.startswith((says, "Ray at auto cannot be joined: "))
        assert "; " in line
