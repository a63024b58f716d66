"""What `rabbitray status` says: one picture made of what router, autoscaler and store answer. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from rabbitray.actors.router.status import Counts
from rabbitray.autoscale.loop import DecisionRecord
from rabbitray.cluster.operate.picture import Look, Messages, Picture, Reason, ShownRates, Sizes
from rabbitray.cluster.operate.problems import clocks, held_back, problems, state

REASONS_SHOWN: Final = 3
ERRORS_SHOWN: Final = 3
NODE_EVENTS_SHOWN: Final = 5


def picture(look: Look) -> Picture:
    """The whole status of one look."""
    wrong = problems(look)
    report, status = look.report, look.status
    return Picture(
        pool=look.pool,
        queue=look.queue,
        state=state(look, wrong),
        problems=wrong,
        warnings=(*held_back(look), *clocks(look)),
        size=_sizes(look),
        messages=Messages(
            ready=look.ready,
            held=status.held,
            in_flight=status.in_flight,
            quarantined=report.quarantined,
            oldest_held_s=_rounded(status.oldest_held_s),
            uncommitted_bytes=report.uncommitted_bytes,
            retries_out=report.retries_out + report.retries_overdue,
            retries_until=_time(report.retries_until_ms / 1000) if report.retries_until_ms else None,
            retries_overdue=report.retries_overdue,
            dropped=look.dropped,
        ),
        window=status.window,
        window_fixed=status.window_fixed,
        batch_size=status.batch_size,
        holds=dict(report.holds),
        vanished=report.vanished,
        counts=report.counts,
        endings=report.endings,
        acked_s_ago=report.acked_s_ago,
        rates=_rates(look),
        latency_ms=report.latency_ms,
        write_ms=report.write_ms,
        errors=report.errors[:ERRORS_SHOWN],
        reasons=tuple(_reason(record) for record in (look.decisions or ())[-REASONS_SHOWN:]),
        rows=None if look.store is None else look.store.rows,
        conflicts=None if look.store is None else look.store.conflicts,
        connected=report.connected,
        broker=report.broker,
        spans_lost=report.spans_lost,
        workers=report.workers,
        environment_s=_rounded(report.environment_s),
        node_events=report.node_events[-NODE_EVENTS_SHOWN:],
    )


def _sizes(look: Look) -> Sizes:
    status = look.status
    fixed = (look.control or {}).get("fixed_size")
    there = status.workers + status.starting + status.retiring - status.silent_workers
    return Sizes(
        wanted=status.target,
        had=status.workers,
        busy=status.busy,
        starting=status.starting,
        retiring=status.retiring,
        possible=None if status.placeable is None else there + status.lent + status.placeable + (status.growable or 0),
        fixed=fixed if isinstance(fixed, int) else None,
        lent=status.lent,
        short=status.short,
    )


def _rates(look: Look) -> ShownRates:
    last = look.decisions[-1].inputs if look.decisions else {}
    return ShownRates(
        received_s=_rate(look, look.report.received - look.earlier.received),
        acked_s=_rate(look, look.report.counts.acked - look.earlier.counts.acked),
        done_s=_rate(look, _done(look.report.counts) - _done(look.earlier.counts)),
        arrivals_s=_rounded(last.get("arrival")),
        speed_per_worker_s=_rounded(last.get("speed")),
    )


def _done(counts: Counts) -> int:
    return counts.done + counts.duplicates


def _rate(look: Look, more: int) -> float:
    return round(max(0, more) / max(look.apart_s, 0.001), 1)


def _reason(record: DecisionRecord) -> Reason:
    return Reason(at=_time(record.at), event=record.event, wanted=record.wanted, reason=record.reason)


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
