"""A process that writes results until it is killed: prints each acknowledged key after its commit.

Run: python -m tests.kit.store_crash_child PATH ROUND. Some keys of earlier rounds are sent again.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.store import Store
from tests.kit.store_rows import rows_of


def config_of(path: Path) -> StoreConfig:
    """Small segments and checkpoints, so that each kind of work is hit by the kill."""
    return StoreConfig(path=path, dedupe_capacity=64 * 40, checkpoint_at=256 * 1024, commit_interval_ms=1)


async def write_for_ever(path: Path, turn: int) -> None:
    store = Store(config_of(path))
    await store.open()
    epoch = await store.register(f"router-{turn}")
    await asyncio.gather(*[_writer(store, epoch, turn, lane) for lane in range(3)])


async def _writer(store: Store, epoch: int, turn: int, lane: int) -> None:
    chance = random.Random(turn * 10 + lane)
    number = 0
    while True:
        keys = [f"{turn}-{lane}-{number + n}" for n in range(chance.randint(1, 60))]
        number += len(keys)
        again = [f"{chance.randint(0, turn)}-{lane}-{chance.randint(0, 500)}" for _ in range(5)]
        await store.write(epoch, rows_of(keys + again))
        sys.stdout.write("\n".join(keys + again) + "\n.\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(write_for_ever(Path(sys.argv[1]), int(sys.argv[2])))
