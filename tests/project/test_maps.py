"""Each package's docstring is a map: at most 20 lines, one for every module and folder in it, and for nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.root import ROOT

FLOORS = ("actors", "autoscale", "cluster")
LINE = re.compile(r"^([a-z_][a-z0-9_]*(?:, [a-z_][a-z0-9_]*)*) {2,}\S")
"""`name  what it does`, or `one, two  what they do`, at the beginning of a line."""

PACKAGES = [
    ROOT / "rabbitray",
    *(init.parent for floor in FLOORS for init in sorted((ROOT / floor).rglob("__init__.py"))),
]


def name_of(package: Path) -> str:
    return package.relative_to(ROOT).as_posix()


def contents(package: Path) -> set[str]:
    """The modules of a package and its folders; a folder counts when there is a file somewhere in it."""
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    folders = {path.name for path in package.iterdir() if path.is_dir() and any(files(path))}
    return modules | folders


def files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def docstring(package: Path) -> str:
    return ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""


def named(text: str) -> list[str]:
    """The names that a map's lines begin with, in order."""
    return [name for line in text.splitlines() if (found := LINE.match(line)) for name in found[1].split(", ")]


def problems(place: str, text: str, there: set[str]) -> list[str]:
    """What to change in the docstring of a package; empty when it is a map of what is there."""
    names = named(text)
    found = [
        f"add to the docstring of {place}/__init__.py: `{name}  what it does`" for name in sorted(there - {*names})
    ]
    found += [f"take out of the docstring of {place}/__init__.py: `{name}`" for name in names if name not in there]
    found += [f"{place}/__init__.py names `{name}` twice" for name in sorted({*names}) if names.count(name) > 1]
    if text.count("\n") >= 20:
        found.append(f"shorten the docstring of {place}/__init__.py to 20 lines: it has {text.count(chr(10)) + 1}")
    return found


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_a_package_s_docstring_is_a_map_of_it(package: Path) -> None:
    found = problems(name_of(package), docstring(package), contents(package))
    assert not found, "\n" + "\n".join(found)


def test_what_is_missing_unknown_twice_or_long_is_said() -> None:
    text = "A room.\n\none         the first\ntwo, three  the others\none  again\n"
    assert problems("room", text, {"one", "two", "four"}) == [
        "add to the docstring of room/__init__.py: `four  what it does`",
        "take out of the docstring of room/__init__.py: `three`",
        "room/__init__.py names `one` twice",
    ]
    (long,) = problems("room", "A room.\n" * 21, set())
    assert long == "shorten the docstring of room/__init__.py to 20 lines: it has 22"


def test_the_floors_are_found() -> None:
    assert {"rabbitray", "actors", "actors/router/intake", "autoscale/policy", "cluster/driver"} <= {
        name_of(package) for package in PACKAGES
    }


@pytest.mark.parametrize("process", ["router", "worker", "store"])
def test_the_map_of_a_process_says_which_process_it_is(process: str) -> None:
    assert docstring(ROOT / "actors" / process).startswith("PROCESS ")
