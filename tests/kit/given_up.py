"""What aiormq does when it gives a connection up."""

from __future__ import annotations

import asyncio
from typing import Any

from aiormq.abc import TaskWrapper


async def gives_up() -> Any:
    """What an RPC does whose connection aiormq gives up: CancelledError, and nobody cancelled us."""
    stuck = TaskWrapper(asyncio.get_running_loop().create_task(asyncio.sleep(60)))
    asyncio.get_running_loop().call_soon(stuck.throw, asyncio.CancelledError())
    await stuck
