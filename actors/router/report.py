"""What `rabbitray status` and the autoscaler see, collected from the router's parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rabbitray.actors.remote.boot import Rows
from rabbitray.actors.router.dispatch.pool import Member
from rabbitray.actors.router.meter import Counts
from rabbitray.actors.router.status import PoolStatus

if TYPE_CHECKING:
    from rabbitray.actors.router.assemble import Parts

USAGE_FRESH_S = 20.0
"""Longer than a worker with a slow job is silent (`SIGN_OF_LIFE_MOST_S`): an idle one tells nothing."""


def router_report(parts: Parts, now: float, *, loop_lag_s: float) -> dict[str, object]:
    """What people look at: counts, latency, holds, workers."""
    tally = parts.settler.tally
    return {
        "connected": parts.intake.connected,
        "generation": parts.intake.generation,
        "reconnects": parts.intake.reconnects,
        "unacked": parts.intake.unacked,
        "stale": parts.intake.stale,
        "received": parts.router.received,
        "done": tally.done,
        "duplicates": tally.duplicates,
        "retried": tally.retried,
        "dead": tally.dead + parts.collector.collected,
        "acked": tally.acked,
        "given_back": tally.given_back,
        "latency_ms": tally.latency.summary(),
        "write_ms": parts.written.latency.summary(),
        "holds": dict(parts.router.holds),
        "errors": parts.router.recent.errors(now),
        "window": parts.router.window,
        "batch_size": parts.router.batch_size,
        "quarantined": len(parts.quarantine),
        "target": parts.pool.target,
        "replaced": parts.pool.replaced,
        "start_error": parts.pool.start_error,
        "fenced": parts.router.fenced.is_set(),
        "loop_lag_s": round(loop_lag_s, 3),
        "spans_lost": parts.tracing.spans_lost,
        "workers": [worker_row(member, now) for member in [*parts.pool.members, *parts.isolated.members]],
    }


def pool_status(parts: Parts, now: float) -> PoolStatus:
    """What the autoscaler decides on."""
    pool, router, tally = parts.pool, parts.router, parts.settler.tally
    starting = [now - member.asked_at for member in pool.members if member.state == "starting"]
    oldest = router.buffer.oldest_at
    in_flight = sum(len(batch.pending) for member in pool.members for batch in member.batches.values())
    return PoolStatus(
        at=now,
        workers=pool.count("ready"),
        starting=len(starting),
        retiring=pool.count("retiring"),
        busy=sum(bool(member.batches) for member in pool.members),
        target=pool.target,
        held=parts.intake.unacked,
        buffered=len(router.buffer),
        in_flight=in_flight,
        done=tally.acked,
        failed=tally.retried + tally.dead,
        received=router.received - router.returned,
        returned=router.returned,
        busy_s=pool.busy_s,
        oldest_held_s=None if oldest is None else now - oldest,
        start_s=pool.start_s,
        placeable=None,
        can_grow_nodes=False,
        paused="paused" in router.holds,
        hold=next((reason for name, reason in router.holds.items() if name != "paused"), None),
        window=router.window,
        old_window_held=parts.intake.held_by_old,
        batch_size=router.batch_size,
        mean_message_bytes=router.mean_message_bytes,
        slots=max((member.slots for member in pool.members), default=1),
        pending_s=max(starting, default=None),
        epoch=parts.store.epoch,
        records_per_message=parts.router.records_per_message,
    )


def counts_of(parts: Parts, now: float) -> Counts:
    """What has been counted since the start."""
    tally = parts.settler.tally
    return Counts(
        at=now,
        done=tally.done,
        duplicates=tally.duplicates,
        retried=tally.retried,
        dead=tally.dead + parts.collector.collected,
        acked=tally.acked,
    )


def worker_row(member: Member[Rows], now: float) -> dict[str, object]:
    """One worker for people. CPU and memory are what it told last; an old CPU figure says nothing of now: None."""
    usage, fresh = member.usage, now - member.used_at < USAGE_FRESH_S
    return {
        "name": member.name,
        "state": member.state,
        "pid": member.info.pid if member.info else None,
        "batches": len(member.batches),
        "jobs": member.jobs,
        "busy_s": round(member.busy_s, 3),
        "cpu_percent": usage.cpu_percent if usage and fresh else None,
        "rss_bytes": usage.rss_bytes if usage else None,
    }
