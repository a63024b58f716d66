"""`ray job ...` as its users type it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.kit.command_process import ROOT


def ray_job(*arguments: str, within_s: float = 120.0, folder: Path = ROOT) -> str:
    """One `ray job ...` command, typed in `folder`; its standard output."""
    command = [str(Path(sys.executable).with_name("ray")), "job", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=within_s, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def agent_takes(submit: tuple[str, ...], *, folder: Path = ROOT) -> bool:
    """Submits a job; False while the dashboard has no agent yet, which comes up some time after it."""
    try:
        ray_job(*submit, folder=folder)
    except AssertionError as refused:
        if "No available agent" in str(refused):
            return False
        raise
    return True
