"""docs/api.md is what the docstrings of the public names say, and every public name and member has one."""

from __future__ import annotations

import builtins
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

import rabbitray
from docs.api_page import PAGE, page
from rabbitray import errors, testing
from rabbitray.actors import errors as all_errors
from tests.kit.root import ROOT

INSIDE = {"FencedError", "PayloadLostError", "InvalidPayloadError"}
"""Errors between the router and the store, and between a worker and its handler, which no user meets."""

NAMES = [(module, name) for module, names in PAGE.items() for name in names]


def public(module: str, name: str) -> Any:  # Any: a class or a function
    return getattr(import_module(module), name)


def members(found: Any) -> Iterator[tuple[str, Any]]:  # Any: a class or a function, and what a class holds
    if not inspect.isclass(found):
        return
    for name, member in vars(found).items():
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            yield name, member


def test_the_page_is_what_the_docstrings_say() -> None:
    assert (ROOT / "docs/api.md").read_text(encoding="utf-8") == page(), "run: make docs"


def test_the_page_shows_all_that_is_exported() -> None:
    assert sorted(PAGE["rabbitray"]) == sorted(rabbitray.__all__)
    assert sorted([*PAGE["rabbitray.testing"], "Message"]) == sorted(testing.__all__)
    assert sorted([*PAGE["rabbitray.errors"], "Reject", "Retry", "WorkerBroken"]) == sorted(errors.__all__)
    assert set(PAGE["rabbitray.actors.publisher"]) <= set(import_module("rabbitray.actors.publisher").__all__)


def test_every_error_that_a_user_may_meet_is_exported() -> None:
    own = {
        name for name, one in vars(all_errors).items() if inspect.isclass(one) and one.__module__ == all_errors.__name__
    }
    assert own - INSIDE == set(errors.__all__)
    assert all(getattr(errors, name) is getattr(all_errors, name) for name in errors.__all__)


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[name for _, name in NAMES])
def test_every_public_name_and_member_has_a_docstring(module: str, name: str) -> None:
    found = public(module, name)
    assert vars(found).get("__doc__") if inspect.isclass(found) else found.__doc__, "a docstring of its own"
    assert [member for member, one in members(found) if not one.__doc__] == []


def test_every_error_that_the_page_names_exists() -> None:
    named = set(re.findall(r"(?<![.\w])[A-Z]\w+Error\b", (ROOT / "docs/api.md").read_text(encoding="utf-8")))
    assert {name for name in named if name not in errors.__all__ and not hasattr(builtins, name)} == set()


def test_the_errors_pull_in_neither_ray_nor_duckdb() -> None:
    code = "import sys, rabbitray.errors; sys.exit(bool({'ray', 'duckdb', 'pyarrow', 'aio_pika'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
