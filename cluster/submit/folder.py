"""The user's folder: which files go along, in the way in which Ray chooses them, and the archive of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.printable import printable
from rabbitray.actors.remote.compat import inside

EXCLUDED: Final = (
    *("__pycache__", ".git", ".hg", ".svn", ".venv", "venv", ".tox", ".nox", "node_modules", "*.egg-info"),
    *(".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".ipynb_checkpoints", ".cache", ".DS_Store"),
    *(".idea", ".vscode", "*.duckdb", "*.duckdb.wal", "*.parquet", "/rabbitray.toml"),
    *(".env", ".env.*", ".rabbitmq-url", "*.pem", "id_rsa", "id_ed25519"),
)
"""Patterns of .gitignore: caches, environments, results, and files that hold secrets. `rabbitray.toml` has been read:
its settings are options of the job's `run`."""
NAMED_MOST: Final = 8
MOST_BYTES: Final = 512 * 1024 * 1024
"""What is packed at most, in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What goes along of `root`: paths below it with their sizes in bytes; `left_out`: names at its top that do not."""

    root: Path
    files: tuple[tuple[Path, int], ...]
    left_out: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)

    def without(self, secret_files: Iterable[Path]) -> Folder:
        """The same without these files, by whatever names they are in it."""
        apart = {file.resolve() for file in secret_files}
        kept = tuple((path, size) for path, size in self.files if (self.root / path).resolve() not in apart)
        top = {path.parts[0] for path, _ in kept}
        gone = {path.parts[0] for path, _ in self.files} - top
        return replace(self, files=kept, left_out=tuple(sorted({*self.left_out, *gone})))

    def holds(self, module: str) -> bool:
        """Whether a module of this dotted name goes along."""
        there = {path for path, _ in self.files}
        return any(path in there for path in _places(module))

    def has_on_disk(self, module: str) -> bool:
        """Whether it is in the folder at all."""
        return any((self.root / path).is_file() for path in _places(module))


def look_through(root: Path, excludes: Sequence[str], *, gitignore: bool) -> Folder:
    """What would be uploaded of the folder; `excludes` behind our own patterns, so `!NAME` takes in again
    what these leave out, and nothing that an ignore file does.

    Raises ConfigurationError for what is no folder, or cannot be read.
    """
    if not root.is_dir():
        raise ConfigurationError(f"--working-dir {printable(str(root))}: is no folder; name the one with your handler")
    try:
        found = inside.files_of_package(root, [*EXCLUDED, *excludes], gitignore=gitignore)
        if found is None:
            raise ConfigurationError("this Ray does not say what it would pack; use `ray job submit --working-dir`")
        files = tuple(sorted((path.relative_to(root), path.stat().st_size) for path in found))
        top = {path.parts[0] for path, _ in files}
        left = sorted(entry.name for entry in root.iterdir() if entry.name not in top)
    except OSError as error:
        raise ConfigurationError(f"--working-dir {printable(str(root))}: {error.strerror or error}") from error
    return Folder(root=root, files=files, left_out=tuple(left))


def require_fitting(folder: Folder, most_bytes: int) -> None:
    """Raises ConfigurationError for a folder that is too large to be packed, naming what is largest in it."""
    if folder.size >= most_bytes:
        raise _too_large(folder, f"less than {told_size(most_bytes)} is packed")


def require_taken(folder: Folder, packed_bytes: int, most_bytes: int) -> None:
    """Raises ConfigurationError for an archive that Ray's job server would not take, naming what is largest in it."""
    if packed_bytes > most_bytes:
        packed = f"{told_size(packed_bytes)} once packed"
        raise _too_large(folder, f"{packed}, and Ray's job server takes {told_size(most_bytes)}")


def _too_large(folder: Folder, why: str) -> ConfigurationError:
    sizes: dict[str, int] = {}
    for path, size in folder.files:
        sizes[path.parts[0]] = sizes.get(path.parts[0], 0) + size
    largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    told_largest = ", ".join(f"{printable(name)} {told_size(sizes[name])}" for name in largest)
    return ConfigurationError(
        f"--working-dir {printable(str(folder.root))}: {len(folder.files):,} files are {told_size(folder.size)}, "
        f"{why}; leave out what the job does not need by .rayignore, .gitignore or --exclude (largest: {told_largest})"
    )


def require_handler(folder: Folder, handler: str) -> str | None:
    """Raises ConfigurationError for a handler that is in the folder, but does not go along. Returns a note where it is
    not in the folder at all, and so must be installed on the cluster.
    """
    module = handler.partition(":")[0]
    if folder.holds(module):
        return None
    if folder.has_on_disk(module):
        raise ConfigurationError(
            f"--handler {handler}: {module} would not be uploaded: .gitignore, .rayignore or --exclude leaves it out, "
            "which you must change, or we do, which --exclude '!NAME' takes back"
        )
    return f"{module} is not in {printable(str(folder.root))}: it must be installed on the cluster"


def told(folder: Folder) -> str:
    """`3 files, 2.1 KiB of /home/ubuntu/project (left out: .git, .venv)`."""
    text = f"{len(folder.files):,} files, {told_size(folder.size)} of {folder.root}"
    if not folder.left_out:
        return text
    more = len(folder.left_out) - NAMED_MOST
    named = ", ".join(folder.left_out[:NAMED_MOST]) + (f" and {more} more" if more > 0 else "")
    return f"{text} (left out: {named})"


def archive(folder: Folder) -> tuple[str, bytes]:
    """Name and content of the archive; the same files give the same name."""
    content = BytesIO()
    with ZipFile(content, "w", ZIP_DEFLATED) as packed:
        for path, _ in folder.files:
            entry = ZipInfo(path.as_posix())
            entry.compress_type = ZIP_DEFLATED
            mode = (folder.root / path).stat().st_mode & 0o777
            entry.external_attr = (0o100000 | mode) << 16
            packed.writestr(entry, (folder.root / path).read_bytes())
    data = content.getvalue()
    return f"_ray_pkg_{hashlib.sha1(data, usedforsecurity=False).hexdigest()}.zip", data


def told_size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _places(module: str) -> Iterable[Path]:
    """Where the code of a module may be below a folder."""
    path = Path(*module.split("."))
    return path.with_suffix(".py"), path / "__init__.py"
