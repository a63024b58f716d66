"""A file system that is full soon: a tmpfs of its own (needs root, as the container of the tests has)."""

from __future__ import annotations

import gc
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.eventually import eventually_sync


@contextmanager
def small_disk(place: Path, size: str = "8m") -> Iterator[Path]:
    """Mounts `size` at `place`, which is made; unmounted once nobody has a file of it open."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        gc.collect()  # what is mapped of a closed store is let go with its last reference
        eventually_sync(lambda: _unmounted(place), within_s=20, message="the small disk is still in use")


def resize(disk: Path, size: str) -> None:
    """Makes room, or takes it."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def _unmounted(place: Path) -> bool:
    return subprocess.run(["umount", str(place)], check=False, capture_output=True).returncode == 0
