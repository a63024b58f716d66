"""The fenced blocks of README and docs, and what a command line in them must be to be right.

How a block is exercised stands behind its language: `bash test=run` is executed, `bash test=live` beside a running pool
(tests/project/test_docs_live.py, which names the few that are only parsed, as all are); `python` is executed;
`py` is a signature and not run (docs/api.md); anything with `file=NAME` is written to the document's folder first. All
blocks of a document share one folder, in order, as for somebody who follows it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from rabbitray.cluster.cli.app import COMMANDS, group
from rabbitray.cluster.settings import Settings
from rabbitray.cluster.settings.kinds import kind_of
from tests.kit.root import ROOT

DOCUMENTS = tuple(sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]))
OPERATORS = ("|", "&&", "||", ";", "&")
PLAIN = ("cat", "chmod", "curl", "kubectl", "mkdir", "pip", "promtool", "python", "rabbitmqctl", "ssh", "umask", "uv")
"""Programs of others that documents name; what they are told is not checked, `promtool` and `rabbitmqctl` by tests."""

_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OF_OTHERS = re.compile(
    r"OTEL_[A-Z_]+|RAY_(ADDRESS|AUTH_MODE|AUTH_TOKEN(_PATH)?|API_SERVER_ADDRESS|JOB_STOP_WAIT_TIME_S|USE_TLS|"
    r"GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S|max_direct_call_object_size|memory_usage_threshold)|"
    r"CUDA_VISIBLE_DEVICES|XLA_PYTHON_CLIENT_MEM_FRACTION|"
    r"RABBITRAY_CONFIG|RABBITRAY_RABBITMQ|RABBITMQ_CTL_ERL_ARGS|GREETING_SERVICE|ERL_FLAGS|PATH|PYTHON|ROUNDS|ARGS|BASE"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block. `line`: of its first line in the document."""

    document: Path
    line: int
    language: str
    marks: dict[str, str]
    text: str

    @property
    def runs(self) -> bool:
        """Whether it is executed."""
        return self.marks.get("test") == "run" or (self.language == "python" and "file" not in self.marks)

    @property
    def where(self) -> str:
        """Document and line."""
        return f"{self.document.name}:{self.line}"


def blocks(document: Path) -> list[Block]:
    """The fenced blocks of a document, in order."""
    text = document.read_text(encoding="utf-8")
    return [
        Block(
            document=document,
            line=text.count("\n", 0, found.start(3)) + 1,
            language=found[1],
            marks=dict(mark.split("=", 1) for mark in found[2].split()),
            text=found[3],
        )
        for found in _FENCE.finditer(text)
    ]


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each simple command of a bash block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in OPERATORS:
                words.append(word)
            elif words:
                yield words
                words = []


def check(words: list[str]) -> None:
    """Raises AssertionError or click.UsageError for a command that would not be understood."""
    while words and (found := re.fullmatch(r"([A-Za-z_]+)=.*", words[0], re.DOTALL)):
        assert known_variable(found[1]), f"no such variable: {found[1]}"
        words = words[1:]
    match words:
        case [] | ["exec"]:
            return
        case ["export", *assignments]:
            names = [assignment.partition("=")[0] for assignment in assignments]
            assert all(map(known_variable, names)), f"no such variable: {names}"
        case ["exec", *rest]:
            check(rest)
        case ["rabbitray", *rest]:
            parse(group, rest)
        case [python, "-m", "rabbitray", *rest] if python.endswith("python"):
            parse(group, rest)
        case ["ray", *rest]:
            parse(ray_command(), rest)
            if "--" in rest:
                check(rest[rest.index("--") + 1 :])
        case ["make", *targets]:
            _check_make(targets)
        case [program, *_]:
            assert program in PLAIN, f"what is {program!r}?"


def known_variable(name: str) -> bool:
    """Whether somebody reads this variable: we, Ray, OpenTelemetry or make."""
    ours = {v for setting, f in Settings.model_fields.items() for v in kind_of(f).environ_names(setting)}
    return name in ours or _OF_OTHERS.fullmatch(name) is not None


def parse(command: click.Command, words: list[str]) -> None:
    """Lets click read the words as it would when the command runs; a file may be missing."""
    name = "rabbitray"
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"no such command: {name}"
        command = found
    try:
        command.make_context(name, list(words))
    except click.BadParameter as wrong:
        if not isinstance(getattr(wrong.param, "type", None), click.File | click.Path):
            raise


def ray_command() -> Any:  # Any: click's group, which Ray does not type
    """The command line of Ray."""
    from ray.scripts.scripts import cli

    return cli


def all_flags() -> set[str]:
    """Every option of every command of ours, and of Ray's where documents name them."""
    found: set[str] = {"--help", "--quick"}  # the second is of `python -m bench`
    waiting: list[click.Command] = [group.get_command(click.Context(group), name) or group for name in COMMANDS]
    waiting += [ray_command().commands[name] for name in ("job", "start", "up", "drain-node", "get-auth-token")]
    while waiting:
        command = waiting.pop()
        found |= {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)}
        waiting += command.commands.values() if isinstance(command, click.Group) and command is not group else ()
    return found


def _check_make(targets: list[str]) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in targets:
        variable, equals, _ = target.partition("=")
        if equals:
            assert known_variable(variable), f"no such variable: {variable}"
        else:
            assert re.search(rf"^{re.escape(target)}:", text, re.MULTILINE), f"no such target: {target}"
