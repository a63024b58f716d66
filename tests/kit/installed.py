"""rabbitray installed into an environment of its own, and a user's project that uses it; the checkout is on no path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

from tests.kit.root import ROOT

OWN_NAMES = ("actors", "autoscale", "bench", "cluster", "tests")
"""Names in the user's project that our checkout has, too."""

JOBS = 20
SHOP = f"""\
import sys
import {", ".join(OWN_NAMES)}
import rabbitray


def handle(job: rabbitray.Job) -> dict:
    if not job.payload:
        raise rabbitray.Reject("nothing in it")
    own = {{module.__name__: module.OWNER for module in ({", ".join(OWN_NAMES)})}}
    return {{"own": own, "rabbitray": rabbitray.__file__, "path": sys.path}}
"""


def shop(folder: Path) -> Path:
    """Makes a user's project: `shop:handle`, JOBS jobs, and modules and packages named as folders of our checkout."""
    folder.mkdir()
    for package in ("autoscale", "cluster", "tests"):
        (folder / package).mkdir()
    for file in ("actors.py", "bench.py", "autoscale/__init__.py", "cluster/__init__.py", "tests/__init__.py"):
        (folder / file).write_text('OWNER = "shop"\n')
    (folder / "shop.py").write_text(SHOP)
    (folder / "jobs.jsonl").write_text(
        "".join(json.dumps({"i": f"job-{n}", "p": {"n": n}}) + "\n" for n in range(JOBS))
    )
    return folder


class Installed:
    """A virtual environment with `rabbitray` from a file or folder. Its dependencies are those of the test run."""

    def __init__(self, folder: Path, *what: str) -> None:
        venv.create(folder, symlinks=True)
        self.python = folder / "bin" / "python"
        self.program = folder / "bin" / "rabbitray"
        self.packages = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
        (self.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip("--python", str(self.python), "install", "--no-compile", *what)

    def run(self, *command: str | Path, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, its environment first on PATH."""
        return subprocess.run(
            command, cwd=cwd, env=self.environ(**environ), capture_output=True, text=True, timeout=200, check=False
        )

    def environ(self, **more: str) -> dict[str, str]:
        """The environment of somebody who activated this virtual environment, and nothing else of ours."""
        ours = ("PYTHONPATH", "VIRTUAL_ENV", "RAY_ADDRESS", "RABBITMQ_URL")
        kept = {name: value for name, value in os.environ.items() if name not in ours}
        return kept | {"PATH": f"{self.python.parent}:{os.environ['PATH']}"} | more

    def answer(self, code: str, cwd: Path) -> Any:  # Any: whatever the code prints as JSON
        """What a program prints, which must be one JSON value."""
        ran = self.run(self.python, "-c", code, cwd=cwd)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)


def pip(*arguments: str) -> None:
    """Runs pip with the build tools of the test run, without an index and without its cache."""
    quiet = ("--quiet", "--no-input", "--no-cache-dir", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", *quiet, *arguments, "--no-index", "--no-build-isolation"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
