"""Two worktrees, `base` and `head`, each with an environment of its own, in the cache folder `.bench-ab/`.

Both are kept and moved to another commit by the next comparison, since an environment takes minutes to make and is made
again only where `requirements.lock` differs. `git worktree remove --force .bench-ab/base` (or the folder's removal and
`git worktree prune`) takes them away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CACHE: Final = ".bench-ab"
PREPARE_PLACES: Final = ("cluster/deploy/install/prepare.sh", "cluster/install/prepare.sh")
_KEPT: Final = (".venv", ".uv")
_GITS_OWN: Final = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")  # set where a hook runs us


class Unusable(Exception):
    """Nothing can be compared; the message is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One commit, ready to be measured."""

    name: str
    commit: str
    folder: Path
    python: str


class Repository:
    """The project's git repository, and the cache folder in it."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.cache = self.root / CACHE

    def commit(self, name: str) -> str:
        """The full hash of a commit."""
        try:
            return self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except Unusable as error:
            raise Unusable(f"no commit {name!r} here: make bench-ab BASE=commit BENCH=name") from error

    def changed(self) -> bool:
        """Whether the working tree differs from HEAD."""
        return bool(self._git("status", "--porcelain"))

    def benches(self, commit: str, planned: Collection[str]) -> set[str]:
        """Names of what a commit can measure: modules in its `bench/` that define `run`, and those of `planned`."""
        with_run: set[str] = set()
        with contextlib.suppress(Unusable):  # git grep ends with 1 where it finds nothing
            found = self._git("grep", "-lE", r"^def run\(", commit, "--", "bench")
            with_run = set(re.findall(r":bench/(\w+)(?:/__init__)?\.py$", found, re.MULTILINE))
        files = self._git("ls-tree", "--name-only", commit, "bench/").splitlines()
        return with_run | {name for name in planned if f"bench/{name}.py" in files}

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone in the cache folder; Unusable where another comparison is under way."""
        self.cache.mkdir(exist_ok=True)
        (self.cache / ".gitignore").write_text("*\n")
        with (self.cache / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Unusable(f"another comparison uses {self.cache}") from None
            yield

    def side(self, name: str, commit: str, python: str | None) -> Side:
        """The worktree `name` at the commit; `python`: an interpreter to use instead of an environment of its own."""
        folder = self.cache / name
        self._check_out(folder, commit)
        return Side(name=name, commit=commit, folder=folder, python=python or _prepared(folder))

    def _check_out(self, folder: Path, commit: str) -> None:
        if self._ours(folder):
            _run(["git", "checkout", "--quiet", "--detach", "--force", commit], folder)
            _run(["git", "clean", "-ffdxq", *(word for name in _KEPT for word in ("-e", name))], folder)
            return
        shutil.rmtree(folder, ignore_errors=True)
        self._git("worktree", "prune")
        self._git("worktree", "add", "--quiet", "--detach", "--force", str(folder), commit)

    def _ours(self, folder: Path) -> bool:
        """Whether it is a worktree of this repository, and not just a folder in one."""
        if not (folder / ".git").is_file():
            return False
        try:
            top, shared = _run(["git", "rev-parse", "--show-toplevel", "--git-common-dir"], folder).splitlines()
            mine = self._git("rev-parse", "--git-common-dir")
        except Unusable:
            return False
        return Path(top) == folder and (folder / shared).resolve() == (self.root / mine).resolve()

    def _git(self, *arguments: str) -> str:
        return _run(["git", *arguments], self.root)


def prepare_script(folder: Path) -> Path:
    """What makes the environment of a commit: its Makefile's PREPARE, or one of the known places."""
    makefile = folder / "Makefile"
    named = re.findall(r"^PREPARE\s*:?=\s*(\S+)$", makefile.read_text() if makefile.exists() else "", re.MULTILINE)
    for place in (*named, *PREPARE_PLACES):
        if (folder / place).is_file():
            return folder / place
    raise Unusable(f"nothing in {folder} makes its environment (PREPARE in its Makefile)")


def _prepared(folder: Path) -> str:
    _run([str(prepare_script(folder)), "python"], folder)
    return str(folder / ".venv" / "bin" / "python")


def _run(command: list[str], folder: Path) -> str:
    """Its output; Unusable with its complaint."""
    environment = {name: value for name, value in os.environ.items() if name not in _GITS_OWN}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Unusable("\n".join([f"{' '.join(command[:3])} ended with {done.returncode}", *said[-15:]]))
    return done.stdout.strip()
