"""`rabbitray dlq` beside a running pool."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.kit.command_process import run
from tests.kit.running_pool import RunningPool


async def dlq(
    pool: RunningPool, *arguments: str, ray_address: str | None = None, knows_broker: bool = True
) -> Any:  # Any: JSON
    """`rabbitray dlq ... --json` as a process of its own, while the pool runs; `show` and `ls` need its Ray, and so do
    the others on a machine that knows of no broker.
    """
    settings = pool.loaded.settings
    command = ["dlq", *arguments, "--queue", settings.queue, "--pool", settings.pool, "--json"]
    url = settings.rabbitmq_url.reveal() if knows_broker else None
    code, out, err = await asyncio.to_thread(run, url, ray_address, *command)
    assert code == 0, err
    return json.loads(out)
