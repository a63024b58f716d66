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
    free: bool  # the worker is idle or has slots free


def due_in_s(front: BufferFront, config: RouterConfig) -> float:
    """Seconds until the next batch goes out; 0.0: now, for it is full or its oldest message has waited long enough.

    A message waits `batch_timeout_ms`; for a free worker at most `burst_wait_ms`.
    """
    if front.records >= front.wanted or front.size >= config.batch_bytes:
        return 0.0
    wait_ms = min(config.batch_timeout_ms, config.burst_wait_ms) if front.free else config.batch_timeout_ms
    return max(0.0, front.oldest_at + wait_ms / 1000 - front.now)
