"""RouterReport: what the router says of itself, and how it is collected from its parts.

Everything that `rabbitray status`, `top` and the driver show of a router is in this one value, with the PoolStatus
that the autoscaler decides on as a field; it becomes JSON at the command line only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rabbitray.actors.router.endings import LastEndings
from rabbitray.actors.router.holds.vanished import VanishedQueue
from rabbitray.actors.router.status import Counts, ErrorCount, PoolStatus
from rabbitray.actors.telemetry.metrics import Percentiles

if TYPE_CHECKING:  # whoever only reads a report needs neither AMQP nor Arrow for it
    from rabbitray.actors.remote.boot import Rows
    from rabbitray.actors.router.assemble import Parts
    from rabbitray.actors.router.dispatch.member import Member, State
    from rabbitray.actors.router.dispatch.node_watch import NodeEvent

SINGLE_ACTIVE = "single active consumer: a change of the window would give the queue to another pool"
"""Why the window stays as it is. (A consumer priority changes nothing: rabbitmq-server#14141.)"""

REFUSED = "broker"
"""The name of the hold of a broker that does not let us in."""

UNDELIVERABLE = "undeliverable"
"""The name of the hold of a queue whose first message RabbitMQ cannot deliver."""

USAGE_FRESH_S = 20.0
"""Longer than a worker with a slow job is silent (`SIGN_OF_LIFE_MOST_S`): an idle one tells nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """How far a job is that runs, as its handler told last. `key`: or its message id."""

    key: str | None
    fraction: float
    text: str
    running_s: float
    told_s_ago: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """One worker for people. `cpu_percent` (of one core) and `rss_bytes` are what it told last.

    An old CPU figure says nothing of now: it is None after USAGE_FRESH_S.
    """

    name: str
    state: State
    pid: int | None  # None until it is ready
    batches: int  # in hand
    jobs: int  # done since its start
    busy_s: float
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    host: str | None = None  # name of its machine
    address: str | None = None  # of its node
    silent_s: float | None = None  # its node gives no answer for so long
    clock_s: float | None = None  # how far its machine's clock is ahead of the router's; its times are corrected by it
    progress: tuple[JobProgress, ...] = ()  # of its jobs that have told it


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterReport:
    """A router at one moment. All that is counted is counted since its start.

    Of the queue's messages, `received` were delivered. As long as no connection was lost (`reconnects` is 0), each of
    them is acked, `given_back` or held now; `counts` says what the acked ones came to, and counts the messages that
    the broker itself dropped beside them (`dropped`), which come through a queue of their own.
    """

    pool: PoolStatus
    counts: Counts
    dropped: int  # messages of `counts.acked` that were not received here
    given_back: int  # messages: held too long, paused, drained, or without a safe outcome
    endings: LastEndings
    latest_due_ms: int  # until when (Unix ms) something waits in a rung, of what was put there; 0: nothing was
    acked_s_ago: float | None  # since the last ack; None before the first
    latency_ms: Percentiles  # publish to ack
    write_ms: Percentiles  # publish to confirm, of retry copies and dead letters
    holds: Mapping[str, str]  # why nothing is consumed: name -> reason in words
    errors: tuple[ErrorCount, ...]  # the most frequent ones lately, the first the most
    workers: tuple[WorkerRow, ...]  # the quarantine's too
    quarantined: int  # messages
    uncommitted_bytes: int  # of rows that wait for the store
    replaced: int  # workers that ended and were replaced
    start_error: str | None  # why the last start of a worker failed
    failed_starts: int  # in a row; workers that were asked for together count once
    connected: bool
    broker: str  # host:port/vhost of the node that is connected to, or was last
    generation: int  # of the channel
    reconnects: int
    stale: int  # settlements of lost channels: their messages are delivered again
    fenced: bool  # another router has taken over
    loop_lag_s: float
    spans_lost: int
    retries_out: int = 0  # copies that went into rungs and are expected back
    retries_until_ms: int = 0  # when (Unix ms) the last of them is overdue; 0: none is out
    retries_overdue: int = 0  # those that should be back by now
    held_back: int = 0  # messages of a node that we have left, which RabbitMQ delivers again later
    uncollected: str | None = None  # why what the broker dropped cannot be collected
    vanished: tuple[VanishedQueue, ...] = ()  # queues of ours that were gone, until somebody confirms it
    node_events: tuple[NodeEvent, ...] = ()  # the last ones, the newest last
    ahead: int = 0  # messages whose producer's clock is ahead of the router's: they have no latency
    ahead_s: float = 0.0  # by so much, of the last of them
    newest_s: float | None = None  # publish to arrival, of the last message that came for the first time
    isolation_waits_s: float | None = None  # for a place in the cluster, where a suspect needs a worker of its own
    environment_s: float | None = None  # until the last worker's environment and place were there
    recycled: int = 0  # workers that had done enough and left for another
    declared_again: int = 0  # how often a queue, or its binding, had to be declared again

    @property
    def received(self) -> int:
        """Deliveries, those of messages that came back included."""
        return self.pool.received + self.pool.returned


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """How a router ended. `clean`: all that was in flight finished in time; `report`: its last, if it gave one."""

    clean: bool
    report: RouterReport | None = None


def router_report(parts: Parts, now: float, *, loop_lag_s: float) -> RouterReport:
    """The router at `now` (monotonic seconds)."""
    intake, router, pool = parts.intake, parts.router, parts.pool
    return RouterReport(
        pool=pool_status(parts, now),
        counts=counts_of(parts),
        dropped=parts.collector.tally.acked,
        given_back=intake.given_back,
        endings=parts.endings(now),
        latest_due_ms=parts.settler.tally.latest_due_ms,
        acked_s_ago=_ago(parts.settler.tally.acked_at),
        latency_ms=parts.settler.tally.latency.summary(),
        write_ms=parts.written.latency.summary(),
        holds=holds_of(parts),
        errors=router.recent.errors(now),
        workers=tuple(
            worker_row(member, now, parts.nodes.of(member)) for member in [*pool.members, *parts.isolated.members]
        ),
        quarantined=len(parts.quarantine),
        uncommitted_bytes=router.uncommitted.size,
        replaced=pool.replaced,
        recycled=pool.recycled,
        start_error=pool.start_error,
        failed_starts=pool.failed_starts,
        connected=intake.connected,
        broker=intake.address,
        generation=intake.generation,
        reconnects=intake.reconnects,
        stale=intake.stale,
        fenced=router.fenced.is_set(),
        loop_lag_s=round(loop_lag_s, 3),
        spans_lost=parts.tracing.spans_lost,
        retries_out=parts.outstanding.out,
        retries_until_ms=parts.outstanding.until_ms,
        retries_overdue=parts.outstanding.overdue,
        held_back=intake.held_back.count,
        uncollected=parts.collector.stuck,
        vanished=parts.watch.vanished.events,
        node_events=tuple(parts.nodes.events),
        ahead=router.arrivals.ahead,
        ahead_s=router.arrivals.ahead_ms / 1000,
        newest_s=None if router.arrivals.newest_ms is None else router.arrivals.newest_ms / 1000,
        isolation_waits_s=parts.lending.waiting_s,
        environment_s=pool.environment_s,
        declared_again=parts.watch.declared_again,
    )


def holds_of(parts: Parts) -> dict[str, str]:
    """Why nothing is consumed now: what holds, a broker that does not let us in, a message that it cannot deliver."""
    intake = parts.intake
    outside = {REFUSED: intake.refused, UNDELIVERABLE: intake.stuck}
    return dict(parts.router.holds) | {name: reason for name, reason in outside.items() if reason}


def pool_status(parts: Parts, now: float) -> PoolStatus:
    """What the autoscaler decides on: cheaper than a whole report, for it is asked for every second and more."""
    pool, router, tally = parts.pool, parts.router, parts.settler.tally
    arrivals = router.arrivals
    starting = [now - member.asked_at for member in pool.members if member.state == "starting"]
    oldest = router.buffer.oldest_at
    in_flight = sum(map(_pending, pool.members))
    leaving = sum(_pending(member) for member in pool.members if member.state == "retiring")
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
        received=arrivals.received - arrivals.returned,
        returned=arrivals.returned,
        busy_s=pool.busy_s,
        oldest_held_s=None if oldest is None else now - oldest,
        start_s=pool.start_s,
        placeable=None,
        can_grow_nodes=False,
        paused="paused" in router.holds,
        hold=next((reason for name, reason in holds_of(parts).items() if name != "paused"), None),
        window=router.window,
        old_window_held=parts.intake.held_by_old,
        batch_size=router.batch_size,
        backlog=router.backlog,
        mean_message_bytes=arrivals.mean_message_bytes,
        slots=max((member.slots for member in pool.members), default=1),
        pending_s=max(starting, default=None),
        epoch=parts.store.epoch,
        records_per_message=arrivals.records_per_message,
        silent=parts.nodes.silent,
        silent_workers=sum(member.silent for member in pool.members),
        lent=min(pool.lent, pool.target),
        beside=leaving + sum(1 for _ in parts.quarantine.held()),
        window_fixed=SINGLE_ACTIVE if parts.intake.single_active else None,
    )


def _pending(member: Member[Any]) -> int:  # Any: its rows, which do not matter here
    """Messages that it has in hand."""
    return sum(len(batch.pending) for batch in member.batches.values())


def counts_of(parts: Parts) -> Counts:
    """What has been counted, of the queue and of what the broker itself dropped from it."""
    found = parts.settler.tally.counts().plus(parts.collector.tally.counts())
    late = parts.intake.late + parts.collector.late
    return replace(found, near_limit=parts.router.arrivals.near_limit, late=late)


def _ago(at: float | None) -> float | None:
    """Seconds since then (Unix seconds)."""
    return None if at is None else round(max(0.0, time.time() - at), 1)


def worker_row(member: Member[Rows], now: float, silent_s: float | None = None) -> WorkerRow:
    """One worker at `now`; `silent_s`: its node has given no answer for so long."""
    usage, fresh = member.usage, now - member.used_at < USAGE_FRESH_S
    info = member.info
    return WorkerRow(
        name=member.name,
        state=member.state,
        pid=info.pid if info else None,
        batches=len(member.batches),
        jobs=member.jobs,
        busy_s=round(member.busy_s, 3),
        cpu_percent=usage.cpu_percent if usage and fresh else None,
        rss_bytes=usage.rss_bytes if usage else None,
        host=(info.host or None) if info else None,
        address=(info.address or None) if info else None,
        silent_s=None if silent_s is None else round(silent_s, 1),
        clock_s=round(info.clock_s, 3) if info else None,
        progress=tuple(_job_progress(member)) if member.progress else (),
    )


def _job_progress(member: Member[Rows]) -> Iterator[JobProgress]:
    there = time.time() + (member.info.clock_s if member.info else 0.0)
    for told in list(member.progress.values()):
        for one in told.values():
            yield JobProgress(
                key=one.key,
                fraction=one.fraction,
                text=one.text,
                running_s=round(max(0.0, there - one.started_at), 1),
                told_s_ago=round(max(0.0, there - one.told_at), 1),
            )
