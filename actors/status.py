"""PoolStatus: what the router knows about its pool at one moment. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatus:
    """The pool as the router sees it; the depth of the queue is not part of it.

    Counters (`done`, `failed`, `received`, `returned`, `busy_s`) only grow within one `epoch`.
    """

    at: float  # monotonic seconds
    workers: int  # ready to work
    starting: int
    retiring: int
    busy: int
    target: int
    held: int  # delivered and not yet acked, those in flight included
    buffered: int
    in_flight: int  # messages at workers
    done: int  # finished messages, failed ones included
    failed: int
    received: int  # first deliveries
    returned: int  # came back from a rung, or redelivered
    busy_s: float  # seconds in which workers were busy, summed over workers
    oldest_held_s: float | None
    start_s: float | None  # measured time that a worker takes to start, smoothed
    placeable: int | None  # how many more workers the cluster can place now
    can_grow_nodes: bool  # Ray's node autoscaler may bring nodes
    paused: bool
    hold: str | None  # reason of an outage hold
    window: int
    old_window_held: int  # messages that older consumers still hold
    batch_size: int  # records
    mean_message_bytes: float | None
    slots: int  # concurrent jobs of a worker: async slots, or 1
    pending_s: float | None  # age of the oldest starting worker
    epoch: int
    records_per_message: float = 1.0  # smoothed; above 1 where messages are packed
