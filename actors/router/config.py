"""RouterConfig: the bounds of batching, waiting and outages."""

from __future__ import annotations

from dataclasses import dataclass, field

from rabbitray.actors.router.holds.outage import OutageLimits
from rabbitray.actors.router.settlement.outstanding import HOP_AGAIN_S


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """Milliseconds, bytes, seconds.

    `batch_timeout_ms`: the longest that a message waits for a full batch, while its worker or the router is busy.
    `burst_wait_ms`: the longest that it waits so else, for a worker that is free. `max_hold_s`: what waits longer, for
    a worker or for the store, is given back. `uncommitted_bytes`: of rows that wait for the store; above, no further
    batch goes out. `rung_retry_s`: after which RabbitMQ tries again to move what the queue refused out of a rung.
    """

    batch_timeout_ms: float = 50.0
    burst_wait_ms: float = 15.0
    batch_bytes: int = 8 * 1024 * 1024
    max_hold_s: float = 300.0
    uncommitted_bytes: int = 512 * 1024 * 1024
    rung_retry_s: float = HOP_AGAIN_S
    outage: OutageLimits = field(default_factory=OutageLimits)
    failpoint: str = ""
