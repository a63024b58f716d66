"""Runs `rabbitray` inside the test: its exit code and what it printed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from rabbitray.cluster.cli.app import main


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which must be one JSON value."""
        return json.loads(self.out)


Run = Callable[..., Ran]


def runner(capfd: pytest.CaptureFixture[str]) -> Run:
    """Returns `run(*arguments)`."""

    def run(*arguments: str) -> Ran:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        root.handlers[:], root.level = handlers, level  # a command sets up the log of its process
        out, err = capfd.readouterr()
        return Ran(code=int(ended.value.code or 0), out=out, err=err)

    return run
