"""A PoolStatus, a RouterReport and a Snapshot with quiet defaults, for tests of the policy and of what is shown."""

from __future__ import annotations

from dataclasses import replace

from rabbitray.actors.router.endings import LastEndings
from rabbitray.actors.router.report import RouterReport
from rabbitray.actors.router.status import Counts, PoolStatus
from rabbitray.actors.telemetry.metrics import Percentiles
from rabbitray.autoscale.policy.signals import Snapshot

QUIET = PoolStatus(
    at=0.0,
    workers=1,
    starting=0,
    retiring=0,
    busy=0,
    target=1,
    held=0,
    buffered=0,
    in_flight=0,
    done=0,
    failed=0,
    received=0,
    returned=0,
    busy_s=0.0,
    oldest_held_s=None,
    start_s=1.0,
    placeable=None,
    can_grow_nodes=False,
    paused=False,
    hold=None,
    window=200,
    old_window_held=0,
    batch_size=10,
    mean_message_bytes=None,
    slots=1,
    pending_s=None,
    epoch=1,
)

QUIET_REPORT = RouterReport(
    pool=QUIET,
    counts=Counts(),
    dropped=0,
    given_back=0,
    endings=LastEndings(),
    latest_due_ms=0,
    acked_s_ago=None,
    latency_ms=Percentiles(),
    write_ms=Percentiles(),
    holds={},
    errors=(),
    workers=(),
    quarantined=0,
    uncommitted_bytes=0,
    replaced=0,
    start_error=None,
    failed_starts=0,
    connected=True,
    broker="127.0.0.1:5672/",
    generation=1,
    reconnects=0,
    stale=0,
    fenced=False,
    loop_lag_s=0.0,
    spans_lost=0,
)


def seen(now: float = 0.0, ready: int | None = 0, **changes: object) -> Snapshot:
    """A snapshot of a quiet pool with some fields changed."""
    return Snapshot(now=now, ready=ready, pool=replace(QUIET, at=now, **changes))  # type: ignore[arg-type]  # any field


def steadily(
    *, speed: float, arrival: float, workers: int, seconds: int, ready: int = 0, **changes: object
) -> list[Snapshot]:
    """Looks, one a second, at a pool of `workers` that keeps up with `arrival` (ready stays as it is)."""
    busy = min(workers, max(1, round(arrival / speed))) if arrival else 0
    return [
        seen(
            now=float(t),
            ready=ready,
            **{
                "workers": workers,
                "target": workers,
                "busy": busy,
                "in_flight": busy,
                "held": busy,
                "received": round(arrival * t),
                "done": round(arrival * t),
                "busy_s": arrival * t / speed,
                **changes,
            },
        )
        for t in range(seconds)
    ]
