"""What commands tell: lines that are ours, whatever stands in them."""

from __future__ import annotations

import logging

import pytest

from rabbitray.actors.secret import NO_SECRETS
from rabbitray.cluster.cli import app
from rabbitray.cluster.cli.errors import tell_fault
from rabbitray.cluster.cli.terminal import LINES_MOST, column, json_alone, prepare, tell, tell_json
from tests.kit.command_line import Run
from tests.kit.hostile import FORGED, LONG, TEXTS, unfit


def test_a_line_is_one_line_and_bounded(capfd: pytest.CaptureFixture[str]) -> None:
    tell(*TEXTS, LONG, err=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert not unfit(err)
    assert err.count("\n") == len(TEXTS) + 1
    assert len(err.split("\n")[-2]) < LINES_MOST + 100


@pytest.mark.parametrize(
    ("as_json", "out"), [(True, '{"done": 1}\n'), (False, '(raylet) a worker died\n{"done": 1}\n')]
)
def test_json_stands_alone_whatever_ray_prints(capfd: pytest.CaptureFixture[str], as_json: bool, out: str) -> None:
    with json_alone(as_json):
        print("(raylet) a worker died")  # noqa: T201 # as Ray does
    tell_json({"done": 1})
    assert capfd.readouterr().out == out


def test_the_lines_of_a_long_text_are_indented() -> None:
    assert column(f"error  a\r\n{FORGED}\n", 7) == ["error  a", f"       {FORGED}", "       "]
    assert len("".join(column(LONG, 3))) < LINES_MOST + 100


def test_a_fault_of_ours_is_told_without_lines_of_others(capfd: pytest.CaptureFixture[str]) -> None:
    try:
        raise KeyError from ValueError(f"amqp://u:geheim@host\n{FORGED}\x1b[2J")
    except KeyError as error:
        tell_fault(error, NO_SECRETS)
    lines = capfd.readouterr().err.split("\n")
    assert lines[0] == "ValueError: amqp://***@host"
    assert all(line.startswith("  ") for line in lines[1:-1])
    assert not unfit("\n".join(lines))


def test_a_log_that_nobody_set_up_is_printable_too(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python writes warnings of such a process to standard error by its handler of last resort."""
    monkeypatch.setattr(logging, "lastResort", logging._StderrHandler(logging.WARNING))  # type: ignore[attr-defined]
    prepare()
    lonely = logging.getLogger("rabbitray.nobody")
    lonely.propagate = False
    try:
        raise ValueError(f"y\n{FORGED}")
    except ValueError:
        lonely.exception("Cannot reach %s", f"amqp://u:geheim@host \x1b[2J\n{FORGED}")
    lines = capfd.readouterr().err.split("\n")
    assert lines[0] == rf"Cannot reach amqp://***@host \x1b[2J\n{FORGED}"
    assert all(line.startswith("  ") for line in lines[1:-1])


def test_each_mistake_in_settings_is_a_line_of_its_own(run: Run) -> None:
    ran = run("config", "--max-size", f"many\n{FORGED}", "--log-level", "\x1b[2J", "--min-size", "-1")
    assert ran.code == 2
    assert not unfit(ran.err)
    assert all(line.startswith("error: ") for line in ran.err.removesuffix("\n").split("\n"))


def test_help_and_version_are_shown(run: Run) -> None:
    assert "Commands:" in run("--help").out
    assert "Usage:" in run().err
    assert all(name in run("--help").out for name in app.COMMANDS)
