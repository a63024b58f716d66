"""What a process of the pool does with its own memory at its start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.kit.root import ROOT

FAULTS = """
import resource
from rabbitray.actors.remote.boot import keep_freed_memory

kept = {keeps} and keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bodies = [bytes(bytearray(100 * 1024)) for _ in range(100)]
    del bodies
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*, keeps: bool, **environ: str) -> tuple[bool, int]:
    """Whether memory is kept, and the page faults of 100 bodies of 100 KiB, as many having been freed before."""
    command = [sys.executable, "-c", FAULTS.format(keeps=keeps)]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(command, env=own | environ, cwd=ROOT, capture_output=True, text=True, check=True)
    kept, faults = map(int, done.stdout.split())
    return bool(kept), faults


def test_bodies_that_were_freed_are_not_fetched_page_by_page_again() -> None:
    (_, plain), (kept, few) = page_faults(keeps=False), page_faults(keeps=True)
    assert kept
    assert 10 * few < plain


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_environment_has_chosen_stays(name: str) -> None:
    kept, _ = page_faults(
        keeps=True, **{name: "100000" if name.startswith("MALLOC") else "glibc.malloc.tcache_count=2"}
    )
    assert not kept
