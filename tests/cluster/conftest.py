"""Where there can be no hosts, the tests here are left out, with one line that says why."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.hosts import missing_for_hosts
from tests.kit.root import ROOT
from tests.kit.transcript import Transcript

TRANSCRIPT = ROOT / ".pytest_cache" / "cluster-transcript.txt"


@contextmanager
def folder_for_disks() -> Iterator[Path]:
    if missing := missing_for_hosts():
        pytest.skip(missing)
    folder = Path(tempfile.mkdtemp(prefix="rabbitray-hosts-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def transcript(request: pytest.FixtureRequest) -> Transcript:
    """What is done to the hosts, shown as it happens, and kept from one test run to the next."""
    plugins = request.config.pluginmanager
    reporter, capture = plugins.getplugin("terminalreporter"), plugins.getplugin("capturemanager")

    def write(line: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(line, flush=True)

    return Transcript(write, TRANSCRIPT)


@pytest.fixture
def disks() -> Iterator[Path]:
    """A folder for the disks of hosts, gone at the end."""
    with folder_for_disks() as folder:
        yield folder


@pytest.fixture(scope="module")
def lasting_disks() -> Iterator[Path]:
    """`disks` for hosts that several tests use."""
    with folder_for_disks() as folder:
        yield folder
