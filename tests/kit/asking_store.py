"""A store whose process can be killed while a query runs.

`python -m tests.kit.asking_store PATH` commits one row, asks what never ends, and prints a line once that runs.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psutil

from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.store import Store
from tests.kit.eventually import eventually
from tests.kit.hostile_queries import OTHERS
from tests.kit.store_rows import rows_of


async def ask_for_ever(path: Path) -> None:
    store = Store(StoreConfig(path=path))
    await store.open()
    await store.write(await store.register("a"), rows_of(["a"]))
    asked = asyncio.create_task(store.query(OTHERS["endless"], timeout_s=3600))
    await eventually(lambda: _reading(path))
    sys.stdout.write("asked\n")
    sys.stdout.flush()
    await asked


def _reading(path: Path) -> bool:
    return any(str(path) in {file.path for file in child.open_files()} for child in psutil.Process().children())


if __name__ == "__main__":
    asyncio.run(ask_for_ever(Path(sys.argv[1])))
