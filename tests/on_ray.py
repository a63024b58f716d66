"""Runs what rests on Ray's inside on another Ray: `python -m tests.on_ray newest|VERSION [arguments of pytest]`.

The Ray and all that requirements.lock pins beside it go into an environment of their own, `.venv-ray/VERSION`. Where
Ray cannot be had in that version it is one line, and a failure: nobody asked for it without wanting it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.kit.root import ROOT

TESTS: Final = ("tests/pool/test_ray_contract.py", "tests/unit/remote", "tests/unit/driver/test_checks.py")


def environment(version: str) -> Path:
    """The Python of an environment with this Ray, made where it is missing."""
    folder = ROOT / ".venv-ray" / version
    python = folder / "bin" / "python"
    uv = _uv()
    if not python.exists():
        (ROOT / ".venv-ray").mkdir(exist_ok=True)
        (ROOT / ".venv-ray" / ".gitignore").write_text("*\n")
        _run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        others = ROOT / ".venv-ray" / "others.txt"
        others.write_text(without_ray((ROOT / "requirements.lock").read_text()))
        _run([*uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(others)])
    wanted = "ray[default]" if version == "newest" else f"ray[default]=={version}"
    _run([*uv, "pip", "install", "--quiet", "--upgrade-package", "ray", "--python", str(python), wanted])
    return python


def without_ray(lock: str) -> str:
    """The pinned packages but Ray, without their hashes."""
    pinned = re.findall(r"^([a-z0-9][^\s\\;]*==[^\s\\;]+)(?: *(;[^\\\n]*))?", lock, re.MULTILINE | re.IGNORECASE)
    return "".join(f"{name} {marker}\n" for name, marker in pinned if not name.startswith("ray=="))


def _uv() -> list[str]:
    own = ROOT / ".uv" / "bin" / "uv"
    return [str(own)] if own.exists() else ["uv"]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"on_ray: {' '.join(command[:4])} ... failed ({done.returncode})")


def main(arguments: Sequence[str]) -> int:
    """Runs them; pytest's exit code."""
    version, *options = arguments or ["newest"]
    python = environment(version)
    said = subprocess.run(
        [python, "-c", "import ray; print(ray.__version__)"], capture_output=True, text=True, check=True
    )
    sys.stderr.write(f"on_ray: Ray {said.stdout.strip()}\n")
    quiet = os.environ | {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}  # an older Ray warns of what 2.60 does by itself
    return subprocess.run([python, "-m", "pytest", *TESTS, *options], cwd=ROOT, env=quiet, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
