"""The batching rule: whether the front of the buffer goes out now, and if not, when to look again. Pure."""

from __future__ import annotations

import msgspec

from rabbitray.actors.router.config import RouterConfig


class BufferFront(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What waits in the buffer, and the worker that it would go to. Times are monotonic seconds."""

    now: float
    oldest_at: float  # arrival of the oldest message
    records: int
    size: int  # bytes
    wanted: float  # records that are worth waiting for
    wait_s: float  # at most so long


def due_in_s(front: BufferFront, config: RouterConfig) -> float:
    """Seconds until the next batch goes out; 0.0: now, for it is full or its oldest message has waited long enough.

    A message waits at most `batch_timeout_ms`.
    """
    if front.records >= front.wanted or front.size >= config.batch_bytes:
        return 0.0
    wait_s = min(config.batch_timeout_ms / 1000, front.wait_s)
    return max(0.0, front.oldest_at + wait_s - front.now)
