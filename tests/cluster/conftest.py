"""Where there can be no hosts, the tests here are left out, with one line that says why."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.hosts import missing_for_hosts


@contextmanager
def folder_for_disks() -> Iterator[Path]:
    if missing := missing_for_hosts():
        pytest.skip(missing)
    folder = Path(tempfile.mkdtemp(prefix="rabbitray-hosts-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


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
