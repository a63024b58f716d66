"""Counts Python-level opens of the results file while a store works, and asks whether its lock still holds."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.store import Store
from tests.kit.store_rows import rows_of

TRY = "import duckdb, sys; duckdb.connect(sys.argv[1])"


async def work(path: Path) -> bool:
    """Use each part of the store; whether another process is still locked out at the end."""
    store = Store(StoreConfig(path=path, dedupe_capacity=64 * 3))
    await store.open()
    epoch = await store.register("a")
    await store.write(epoch, rows_of([f"k{n}" for n in range(50)]))
    await store.write(epoch, rows_of(["k1"], results=["{bad"]))
    await store.query("SELECT * FROM results")
    async for _ in store.stream("SELECT * FROM results"):
        pass
    await store.stats()
    other = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", TRY, str(path)], capture_output=True)
    await store.close()
    return b"Could not set lock" in other.stderr


def main(path: Path) -> None:
    opened: list[str] = []

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event == "open" and str(args[0]) in (str(path), f"{path}.wal"):
            opened.append(str(args[0]))

    sys.addaudithook(hook)
    locked = asyncio.run(work(path))
    sys.stdout.write(f"opens: {len(opened)}, locked: {locked}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
