"""Fixtures that more than one folder uses; tests/conftest.py loads them as a plugin."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.command_line import Run, runner

NOWHERE = "amqp://127.0.0.1:1/"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RABBITMQ_URL", NOWHERE)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    return runner(capfd)
