"""Where the user's modules lie, for words about a handler that cannot be imported: only looked at, never imported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

DEPTH: Final = 3
"""Levels below the working directory that are looked into."""
FOLDERS_MOST: Final = 500
_NOT_HIS: Final = frozenset({"node_modules", "site-packages", "__pycache__", "venv", "build", "dist"})


def name_of(text: str) -> str | None:
    """The module that a file's path means, e.g. `a.jobs` for `./a/jobs.py`; None for the name of a module."""
    if "/" not in text and not (text.endswith(".py") and Path(text).exists()):
        return None
    path = Path(text)
    found = Path(os.path.relpath(path)) if path.is_absolute() else path
    return ".".join(part for part in found.with_suffix("").parts if part not in (".", ".."))


def where_it_lies(name: str, module_name: str) -> Path | None:
    """The file or package of a module that cannot be imported, where the user's folder has it; beside the handler's
    module first."""
    first = name.split(".")[0]
    beside = Path(*module_name.split(".")[:-1])
    return next((found for folder in (beside, *_folders()) if (found := _module(folder, first)) is not None), None)


def in_package(name: str, lies: Path) -> str | None:
    """The package from whose name the module there could be imported; None where it lies at the top."""
    parts = lies.parent.parts
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else None


def shadowed(module: ModuleType) -> str:
    """What to add where another module of that name was imported than the one in the user's folder; else nothing."""
    name = module.__name__.split(".")[0]
    own = _module(Path(), name)
    place = getattr(module, "__file__", None)
    if own is None or (place is not None and Path(place).is_relative_to(Path.cwd())):
        return ""
    return f": {place or 'a module of Python itself'} has that name too and comes before {own}; rename yours"


def _module(folder: Path, name: str) -> Path | None:
    """A module or package of that name in the folder."""
    file, package = folder / f"{name}.py", folder / name
    if file.is_file():
        return file
    return package if package.is_dir() and any(package.glob("*.py")) else None


def _folders() -> Iterator[Path]:
    """The working directory and what is below it, as relative paths, the upper ones first."""
    level, seen = [Path()], 0
    for _ in range(DEPTH + 1):
        yield from level
        seen += len(level)
        if seen > FOLDERS_MOST:
            return
        level = [child for folder in level for child in _children(folder)]


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(
            child
            for child in folder.iterdir()
            if child.is_dir() and not child.name.startswith(".") and child.name not in _NOT_HIS
        )
    except OSError:  # no right to look into it
        return []
