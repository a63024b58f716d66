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


ENDING = """
import atexit, sys, threading, time
import duckdb
from rabbitray.actors.remote.boot import drop_teardown_messages, freeze_gc

if {drops}:
    drop_teardown_messages()
connection = duckdb.connect()
threading.Thread(target=lambda: time.sleep(60), daemon=True).start()  # as Ray's own, it holds this module's names
freeze_gc()
atexit.register(lambda: print("the user's own last words", file=sys.stderr))
"""


@pytest.mark.parametrize("drops", [True, False])
def test_a_worker_that_ends_says_nothing_of_the_leaks_of_a_library(*, drops: bool) -> None:
    command = [sys.executable, "-c", ENDING.format(drops=drops)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.startswith("the user's own last words")
    assert ("nanobind: leaked" in done.stderr) is not drops
