"""RayThread: a thread for those of Ray's calls that block, so that no event loop stands still for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class RayThread:
    """One thread, begun at its first call; calls follow one another.

    A look-up, the creation of a named actor, a kill and a question about nodes wait for the GCS, a minute or longer
    when it is away. Each owner has a thread of its own: the event loop's own threads are also those that look up the
    broker's address, and may not all be waiting for Ray. Arguments that do not go inline are handed over in a thread,
    too: Ray puts them into its object store within `.remote()`, and waits there while that is full.
    """

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns. Cancelling leaves it alone if it has begun; what it then returns is dropped."""
        return await asyncio.wrap_future(self.submit(work, *args, **kwargs))

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `call`, for who does not wait on an event loop."""
        return self._thread.submit(work, *args, **kwargs)
