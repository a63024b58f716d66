"""README and docs say what is true: snippets run, commands exist with these options, alerts have a run-book entry."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from actors.testing import work
from cluster.cli import COMMANDS, group

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_readmes_handler_runs() -> None:
    (snippet,) = blocks(README, "python")
    names: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), names)
    done, rejected, later = work(names["handle"], [{"a": 1}, None, {"later": True}])  # type: ignore[arg-type] # a function
    assert done.status == "DONE"
    assert rejected.status == "DEAD"
    assert later.status == "RETRY"


def lines(text: str) -> list[list[str]]:
    """The words of each `rabbitray ...` line of all bash blocks."""
    joined = "\n".join(blocks(text, "bash")).replace("\\\n", " ")
    return [shlex.split(line, comments=True)[1:] for line in joined.splitlines() if line.startswith("rabbitray ")]


@pytest.mark.parametrize("words", lines(README), ids=lambda words: words[0])
def test_the_readmes_commands_parse(words: list[str]) -> None:
    command = group.get_command(click.Context(group), words[0])
    assert command is not None
    command.make_context(words[0], words[1:], resilient_parsing=True)
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_every_command_has_help() -> None:
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        assert command.help or command.short_help


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_alert_has_a_run_book_entry() -> None:
    rules = yaml.safe_load((ROOT / "cluster/prometheus/alerts.yml").read_text())
    alerts = {rule["alert"] for one in rules["groups"] for rule in one["rules"] if "alert" in rule}
    assert alerts <= set(re.findall(r"^## (\w+)", (ROOT / "docs/operations.md").read_text(), re.MULTILINE))
