"""What `rabbitray status` says: one picture made of what router, autoscaler and store answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from rabbitray.actors.router.endings import NONE_ENDED, LastEndings
from rabbitray.actors.router.report import RouterReport, WorkerRow
from rabbitray.actors.router.status import Counts, ErrorCount, PoolStatus
from rabbitray.actors.store.answers import StoreStats
from rabbitray.actors.telemetry.metrics import Percentiles
from rabbitray.autoscale.loop import DecisionRecord

State = Literal["healthy", "paused", "degraded"]

STARTING_TOO_LONG_S: Final = 60.0
LAG_TOO_LONG_S: Final = 1.0
OLD_AFTER_S: Final = 60.0
"""A figure that is older says so."""

REASONS_SHOWN: Final = 3
ERRORS_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen. None: that actor is gone or silent. `earlier`: the router's report `apart_s` before.

    `status`: the pool as the autoscaler sees it, with what the cluster can place, or as the router does.
    """

    pool: str
    queue: str
    report: RouterReport
    earlier: RouterReport
    apart_s: float
    status: PoolStatus
    decisions: Sequence[DecisionRecord] | None = None
    store: StoreStats | None = None
    control: Mapping[str, object] | None = None
    ready: int | None = None
    dropped: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Workers. `possible`: what the cluster has room for, those that are there included; `fixed`: by `scale N`."""

    wanted: int
    had: int
    busy: int
    starting: int
    retiring: int
    possible: int | None
    fixed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """Where messages are now. `uncommitted_bytes`: of results that wait for the store.

    `retries_out` went into rungs and have not come back, `retries_overdue` of them should have; `dropped` were moved by
    the broker and are not collected yet.
    """

    ready: int | None
    held: int
    in_flight: int
    quarantined: int
    oldest_held_s: float | None
    uncommitted_bytes: int
    retries_out: int = 0
    retries_overdue: int = 0
    dropped: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRates:
    """Per second, between the two looks and as the autoscaler has measured them: messages, and, as `done_s`, jobs
    that got their result or had it already."""

    received_s: float
    acked_s: float
    done_s: float
    arrivals_s: float | None
    speed_per_worker_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One decision of the autoscaler. `at`: ISO 8601, UTC."""

    at: str
    event: str
    wanted: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The whole status. Its fields, and theirs, are the keys of `rabbitray status --json`: a documented interface.

    `conflicts`: messages that came under the key of another one's result, since the store started. `counts` and
    `latency_ms` are of all since the router started; `acked_s_ago`: so many seconds ago the last message was acked.
    """

    pool: str
    queue: str
    state: State
    problems: tuple[str, ...]
    size: Sizes
    messages: Messages
    window: int
    window_fixed: str | None = None
    batch_size: int
    holds: Mapping[str, str]
    counts: Counts
    endings: LastEndings = NONE_ENDED
    acked_s_ago: float | None = None
    rates: ShownRates
    latency_ms: Percentiles
    write_ms: Percentiles
    errors: tuple[ErrorCount, ...]
    reasons: tuple[Reason, ...]
    rows: int | None
    conflicts: int | None = None
    connected: bool
    spans_lost: int
    workers: tuple[WorkerRow, ...]

    def as_json(self) -> dict[str, Any]:  # Any: JSON values
        """As `status --json` and `top --json` print it."""
        return asdict(self)


def picture(look: Look) -> Picture:
    """The whole status of one look."""
    wrong = problems(look)
    report, status = look.report, look.status
    return Picture(
        pool=look.pool,
        queue=look.queue,
        state=state(look, wrong),
        problems=wrong,
        size=_sizes(look),
        messages=Messages(
            ready=look.ready,
            held=status.held,
            in_flight=status.in_flight,
            quarantined=report.quarantined,
            oldest_held_s=_rounded(status.oldest_held_s),
            uncommitted_bytes=report.uncommitted_bytes,
            retries_out=report.retries_out + report.retries_overdue,
            retries_overdue=report.retries_overdue,
            dropped=look.dropped,
        ),
        window=status.window,
        window_fixed=status.window_fixed,
        batch_size=status.batch_size,
        holds=dict(report.holds),
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
        spans_lost=report.spans_lost,
        workers=report.workers,
    )


def state(look: Look, wrong: Sequence[str]) -> State:
    """Degraded where anything is wrong; a pause is somebody's will and nothing wrong."""
    if wrong:
        return "degraded"
    return "paused" if look.status.paused else "healthy"


def problems(look: Look) -> tuple[str, ...]:
    """What is wrong, a line each; empty when all is well."""
    report, status = look.report, look.status
    found = [f"held ({name}): {reason}" for name, reason in report.holds.items() if name != "paused"]
    if not report.connected:
        found.append("not connected to RabbitMQ")
    if report.fenced:
        found.append("another router has taken over")
    if report.start_error:
        found.append(f"workers cannot start: {report.start_error}")
    elif status.target and not status.workers and (status.pending_s or 0.0) > STARTING_TOO_LONG_S:
        found.append(f"no worker has started for {status.pending_s:.0f} s: is there room in the cluster?")
    if report.endings.too_many_dead:
        found.append(too_many_dead(report.endings))
    if report.loop_lag_s > LAG_TOO_LONG_S:
        found.append(f"the router runs {report.loop_lag_s:.1f} s late")
    if report.retries_overdue:
        found.append(
            f"{report.retries_overdue:,} retries should be back from their rungs: is the queue full, or a policy on "
            "them?"
        )
    if report.uncollected is not None:
        found.append(f"{known(look.dropped)} messages that RabbitMQ dropped are not collected: {report.uncollected}")
    if look.store is None:
        found.append("the store does not answer")
    elif look.store.paused:
        found.append(f"the store cannot commit: {look.store.paused}")
    if look.decisions is None:
        found.append("the autoscaler does not answer")
    return tuple(found)


def too_many_dead(endings: LastEndings) -> str:
    """That most jobs end in the dead letters, and by which error."""
    share = f"{endings.dead} of the last {endings.jobs} jobs that ended are dead letters"
    row = f", the last {endings.in_a_row:,} one after another" if endings.in_a_row > 1 else ""
    error = f"; {error_line(endings.error)}" if endings.error else ""
    return share + row + error


def _sizes(look: Look) -> Sizes:
    status = look.status
    fixed = (look.control or {}).get("fixed_size")
    there = status.workers + status.starting + status.retiring
    return Sizes(
        wanted=status.target,
        had=status.workers,
        busy=status.busy,
        starting=status.starting,
        retiring=status.retiring,
        possible=None if status.placeable is None else there + status.placeable,
        fixed=fixed if isinstance(fixed, int) else None,
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
    at = datetime.fromtimestamp(record.at, UTC).isoformat(timespec="seconds")
    return Reason(at=at, event=record.event, wanted=record.wanted, reason=record.reason)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def lines(seen: Picture) -> list[str]:
    """The picture for people."""
    size, messages, rates, latency = seen.size, seen.messages, seen.rates, seen.latency_ms
    fixed = f", fixed at {size.fixed}" if size.fixed is not None else ""
    holds = "; ".join(f"{name}: {why}" for name, why in seen.holds.items()) or "none"
    return [
        f"pool {seen.pool} on queue {seen.queue}: {seen.state}",
        *(f"  ! {problem}" for problem in seen.problems),
        f"workers   {size.had} of {size.wanted} wanted{fixed}; {size.busy} busy, {size.starting} starting, "
        f"{size.retiring} retiring, {known(size.possible)} possible",
        f"messages  {known(messages.ready)} ready, {messages.held:,} held, {messages.in_flight:,} in flight, "
        f"{messages.quarantined} quarantined; window {seen.window:,}, batch {seen.batch_size:,}",
        *([f"window    fixed: {seen.window_fixed}"] if seen.window_fixed else []),
        *([f"retries   {messages.retries_out:,} in rungs or on their way back"] if messages.retries_out else []),
        *(
            [f"dropped   {messages.dropped:,} messages that RabbitMQ moved are not collected yet"]
            if messages.dropped
            else []
        ),
        *([f"results   {messages.uncommitted_bytes:,} bytes wait for the store"] if messages.uncommitted_bytes else []),
        f"rates     {rates.received_s:,.1f} in, {rates.acked_s:,.1f} finished, {rates.done_s:,.1f} jobs done "
        f"per second; per worker {known(rates.speed_per_worker_s)}",
        f"counts    {_counts(seen.counts)}; {known(seen.rows)} rows",
        *([f"conflicts {seen.conflicts:,} messages came under the key of another's result"] if seen.conflicts else []),
        f"latency   p50 {known(latency.p50)} ms, p99 {known(latency.p99)} ms (publish to ack, of all since the start"
        f"{_last(seen.acked_s_ago)})",
        *(f"error     {error_line(one)}" for one in seen.errors),
        f"holds     {holds}",
        *([f"traces    {seen.spans_lost:,} spans of the router are lost"] if seen.spans_lost else []),
        *(f"reason    {one.at[11:19]} {one.event}: {one.reason}" for one in seen.reasons),
        *(_worker(worker) for worker in seen.workers),
    ]


def _worker(worker: WorkerRow) -> str:
    return (
        f"  {worker.name:<24} {worker.state:<9} pid {worker.pid or '-':<8} {worker.batches} batches, "
        f"{worker.jobs:,} jobs, busy {worker.busy_s:,.1f} s"
    )


def error_line(one: ErrorCount) -> str:
    """One of the most frequent errors among the last 1,000 outcomes, none older than an hour."""
    return f"{one.count:,} lately{_last(one.last_s)}: {one.error_class}: {' '.join(one.example.split())}"


def _last(ago_s: float | None) -> str:
    """When the last one was, where that is not now."""
    return "" if ago_s is None or ago_s < OLD_AFTER_S else f", the last {age(ago_s)} ago"


def age(seconds: float) -> str:
    """A time for people, in the one unit that says enough: 45 s, 10 min, 3 h, 2 days."""
    for unit, most, name in ((1, 120, "s"), (60, 7_200, "min"), (3_600, 172_800, "h")):
        if seconds < most:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} days"


def _counts(counts: Counts) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in asdict(counts).items())


def known(value: float | None) -> str:
    """A number for people; a question mark where it is not known."""
    return "?" if value is None else f"{value:,}"
