"""Every command explains itself, and has --json where it reports something."""

from __future__ import annotations

import pytest

from rabbitray.cluster.cli.app import COMMANDS
from tests.kit.command_line import Run


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(run: Run, name: str) -> None:
    ran = run(name, "--help")
    assert ran.code == 0
    assert "Usage: rabbitray" in ran.out


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("broker", "dlq")])
def test_every_command_that_reports_has_json(run: Run, name: str) -> None:
    assert "--json" in run(name, "--help").out
