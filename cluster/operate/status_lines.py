"""The picture of a status as lines for people. Pure."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

from rabbitray.actors.router.report import JobProgress, WorkerRow
from rabbitray.actors.router.status import Counts, ErrorCount
from rabbitray.cluster.operate.picture import Messages, Picture

OLD_AFTER_S: Final = 60.0
"""A figure that is older says so."""


def lines(seen: Picture) -> list[str]:
    """The picture for people."""
    size, messages, rates, latency = seen.size, seen.messages, seen.rates, seen.latency_ms
    fixed = f", fixed at {size.fixed}" if size.fixed is not None else ""
    lent = f", {size.lent} lent to run suspects of a crash alone" if size.lent else ""
    short = f" (short of {size.short})" if size.short and size.possible is not None else ""
    holds = "; ".join(f"{name}: {why}" for name, why in seen.holds.items()) or "none"
    return [
        f"pool {seen.pool} on queue {seen.queue}: {seen.state}",
        *(f"  ! {problem}" for problem in seen.problems),
        *(f"  note: {warning}" for warning in seen.warnings),
        f"workers   {size.had} of {size.wanted} wanted{fixed}{lent}; {size.busy} busy, {size.starting} starting, "
        f"{size.retiring} retiring, {known(size.possible)} possible{short}",
        *([_environment(seen.environment_s)] if seen.environment_s is not None else []),
        f"messages  {known(messages.ready)} ready, {messages.held:,} held, {messages.in_flight:,} in flight, "
        f"{messages.quarantined} quarantined; window {seen.window:,}, batch {seen.batch_size:,}",
        *([f"broker    {seen.broker}"] if seen.broker and seen.connected else []),
        *([f"window    fixed: {seen.window_fixed}"] if seen.window_fixed else []),
        *([_retries(messages)] if messages.retries_out else []),
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
        *(f"node      {_clock(one.at)} {one}" for one in seen.node_events),
        *(line for worker in seen.workers for line in (_worker(worker), *map(_progress, worker.progress))),
    ]


def _environment(took_s: float) -> str:
    return f"workers   the last one waited {took_s:,.1f} s for its place and its environment"


def _retries(messages: Messages) -> str:
    until = f", expected until {messages.retries_until} at the latest" if messages.retries_until else ""
    overdue = f", {messages.retries_overdue:,} of them overdue" if messages.retries_overdue else ""
    return f"retries   {messages.retries_out:,} in rungs or on their way back{until}{overdue}"


def _worker(worker: WorkerRow) -> str:
    silent = f", no answer for {worker.silent_s:.0f} s" if worker.silent_s is not None else ""
    return (
        f"  {worker.name:<24} {worker.state:<9} {place(worker):<24} pid {worker.pid or '-':<8} "
        f"{worker.batches} batches, {worker.jobs:,} jobs, busy {worker.busy_s:,.1f} s{silent}"
    )


def _progress(job: JobProgress) -> str:
    return f"    {progress_line(job)}"


def progress_line(job: JobProgress) -> str:
    """How far a job is that runs, and since when it said nothing more."""
    text = f": {job.text}" if job.text else ""
    return f"{job.key or '-'} {job.fraction:.0%}{text} (runs {age(job.running_s)}{_last_told(job.told_s_ago)})"


def _last_told(ago_s: float) -> str:
    return "" if ago_s < OLD_AFTER_S else f", told {age(ago_s)} ago"


def place(worker: WorkerRow) -> str:
    """The machine of a worker: its name and its address."""
    return f"{worker.host} ({worker.address})" if worker.host else "-"


def _clock(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%H:%M:%S")


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
