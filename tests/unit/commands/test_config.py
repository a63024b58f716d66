"""`rabbitray config` in a pipe."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from rabbitray.cluster.cli.app import group
from rabbitray.cluster.settings import Settings


def test_no_name_is_cut_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(group, ["config"]).output
    assert "…" not in shown
    assert [name for name in Settings.model_fields if f"  {name} " not in shown] == []
