"""What `rabbitray status` says: one picture made of what router, autoscaler and store answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from rabbitray.actors.router.status import PoolStatus
from rabbitray.actors.store.answers import StoreStats
from rabbitray.autoscale.loop import DecisionRecord

State = Literal["healthy", "paused", "degraded"]

STARTING_TOO_LONG_S: Final = 60.0
LAG_TOO_LONG_S: Final = 1.0
REASONS_SHOWN: Final = 3
ERRORS_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen. None: that actor is gone or silent. `earlier`: the router's report `apart_s` before."""

    pool: str
    queue: str
    report: Mapping[str, Any]  # Any: JSON values
    earlier: Mapping[str, Any]
    apart_s: float
    status: PoolStatus
    decisions: Sequence[DecisionRecord] | None = None
    store: StoreStats | None = None
    control: Mapping[str, object] | None = None
    ready: int | None = None


def picture(look: Look) -> dict[str, Any]:  # Any: JSON values
    """The whole status, ready for JSON."""
    wrong = problems(look)
    report, status = look.report, look.status
    return {
        "pool": look.pool,
        "queue": look.queue,
        "state": state(look, wrong),
        "problems": wrong,
        "size": _sizes(look),
        "messages": {
            "ready": look.ready,
            "held": status.held,
            "in_flight": status.in_flight,
            "quarantined": report.get("quarantined", 0),
            "oldest_held_s": _rounded(status.oldest_held_s),
        },
        "window": status.window,
        "batch_size": status.batch_size,
        "holds": dict(report.get("holds", {})),
        "counts": {name: report.get(name, 0) for name in ("done", "duplicates", "retried", "dead", "acked")},
        "rates": _rates(look),
        "latency_ms": dict(report.get("latency_ms", {})),
        "write_ms": dict(report.get("write_ms", {})),
        "errors": list(report.get("errors", ()))[:ERRORS_SHOWN],
        "reasons": [_reason(record) for record in (look.decisions or ())[-REASONS_SHOWN:]],
        "rows": None if look.store is None else look.store.rows,
        "connected": bool(report.get("connected")),
        "spans_lost": report.get("spans_lost", 0),
        "workers": list(report.get("workers", ())),
    }


def state(look: Look, wrong: Sequence[str]) -> State:
    """Degraded where anything is wrong; a pause is somebody's will and nothing wrong."""
    if wrong:
        return "degraded"
    return "paused" if look.status.paused else "healthy"


def problems(look: Look) -> list[str]:
    """What is wrong, a line each; empty when all is well."""
    report, status = look.report, look.status
    found = [f"held ({name}): {reason}" for name, reason in report.get("holds", {}).items() if name != "paused"]
    if not report.get("connected"):
        found.append("not connected to RabbitMQ")
    if report.get("fenced"):
        found.append("another router has taken over")
    if report.get("start_error"):
        found.append(f"workers cannot start: {report['start_error']}")
    elif status.target and not status.workers and (status.pending_s or 0.0) > STARTING_TOO_LONG_S:
        found.append(f"no worker has started for {status.pending_s:.0f} s: is there room in the cluster?")
    if report.get("loop_lag_s", 0.0) > LAG_TOO_LONG_S:
        found.append(f"the router runs {report['loop_lag_s']:.1f} s late")
    if look.store is None:
        found.append("the store does not answer")
    elif look.store.paused:
        found.append(f"the store cannot commit: {look.store.paused}")
    if look.decisions is None:
        found.append("the autoscaler does not answer")
    return found


def _sizes(look: Look) -> dict[str, int | None]:
    status = look.status
    fixed = (look.control or {}).get("fixed_size")
    there = status.workers + status.starting + status.retiring
    return {
        "wanted": status.target,
        "had": status.workers,
        "busy": status.busy,
        "starting": status.starting,
        "retiring": status.retiring,
        "possible": None if status.placeable is None else there + status.placeable,
        "fixed": fixed if isinstance(fixed, int) else None,
    }


def _rates(look: Look) -> dict[str, float | None]:
    """Messages per second over the moment between the two looks, and what the autoscaler has measured."""
    last = look.decisions[-1].inputs if look.decisions else {}
    return {
        "received_s": _rate(look, "received"),
        "acked_s": _rate(look, "acked"),
        "arrivals_s": _rounded(last.get("arrival")),
        "speed_per_worker_s": _rounded(last.get("speed")),
    }


def _rate(look: Look, name: str) -> float:
    more: int = max(0, look.report.get(name, 0) - look.earlier.get(name, 0))
    return round(more / max(look.apart_s, 0.001), 1)


def _reason(record: DecisionRecord) -> dict[str, object]:
    at = datetime.fromtimestamp(record.at, UTC).isoformat(timespec="seconds")
    return {"at": at, "event": record.event, "wanted": record.wanted, "reason": record.reason}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def lines(seen: Mapping[str, Any]) -> list[str]:  # Any: JSON values
    """The picture for people."""
    size, messages, rates, latency = seen["size"], seen["messages"], seen["rates"], seen["latency_ms"]
    fixed = f", fixed at {size['fixed']}" if size["fixed"] is not None else ""
    holds = "; ".join(f"{name}: {why}" for name, why in seen["holds"].items()) or "none"
    return [
        f"pool {seen['pool']} on queue {seen['queue']}: {seen['state']}",
        *(f"  ! {problem}" for problem in seen["problems"]),
        f"workers   {size['had']} of {size['wanted']} wanted{fixed}; {size['busy']} busy, {size['starting']} starting, "
        f"{size['retiring']} retiring, {known(size['possible'])} possible",
        f"messages  {known(messages['ready'])} ready, {messages['held']:,} held, {messages['in_flight']:,} in flight, "
        f"{messages['quarantined']} quarantined; window {seen['window']:,}, batch {seen['batch_size']:,}",
        f"rates     {rates['received_s']:,.1f} in, {rates['acked_s']:,.1f} finished per second; "
        f"per worker {known(rates['speed_per_worker_s'])}",
        f"counts    {_counts(seen['counts'])}; {known(seen['rows'])} rows",
        f"latency   p50 {known(latency.get('p50'))} ms, p99 {known(latency.get('p99'))} ms (publish to ack)",
        *(f"error     {error_line(one)}" for one in seen["errors"]),
        f"holds     {holds}",
        *([f"traces    {seen['spans_lost']:,} spans of the router are lost"] if seen["spans_lost"] else []),
        *(f"reason    {one['at'][11:19]} {one['event']}: {one['reason']}" for one in seen["reasons"]),
        *(_worker(worker) for worker in seen["workers"]),
    ]


def _worker(worker: Mapping[str, Any]) -> str:  # Any: JSON values
    return (
        f"  {worker['name']:<24} {worker['state']:<9} pid {worker['pid'] or '-':<8} {worker['batches']} batches, "
        f"{worker['jobs']:,} jobs, busy {worker['busy_s']:,.1f} s"
    )


def error_line(one: Mapping[str, Any]) -> str:  # Any: JSON values
    """One of the most frequent errors among the last 1,000 outcomes, none older than an hour."""
    return f"{one['count']:,} lately: {one['error_class']}: {' '.join(str(one['example']).split())}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def known(value: float | None) -> str:
    """A number for people; a question mark where it is not known."""
    return "?" if value is None else f"{value:,}"
