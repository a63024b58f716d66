"""Whether a pool is well: healthy, paused or degraded, and what is wrong, a line each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rabbitray.actors.message.reply import CLOCK_OFF_S
from rabbitray.actors.router.endings import LastEndings
from rabbitray.actors.router.holds.vanished import VANISHED
from rabbitray.actors.router.report import WorkerRow
from rabbitray.cluster.operate.picture import Look, State
from rabbitray.cluster.operate.status_lines import error_line, known, place

STARTING_TOO_LONG_S: Final = 60.0
LAG_TOO_LONG_S: Final = 1.0
BEHIND_S: Final = 60.0
TOLD_ELSEWHERE: Final = ("paused", VANISHED)
"""Holds that have no line of their own: somebody's will, and what the queues that vanished say."""

VANISHED_NOW: Final = {
    "missing": "the pool waits for it",
    "made": "it was declared anew, empty",
    "back": "it is there again",
    "unused": "the pool does not use it any more",
}


def state(look: Look, wrong: Sequence[str]) -> State:
    """Degraded where anything is wrong; a pause is somebody's will and nothing wrong."""
    if wrong:
        return "degraded"
    return "paused" if look.status.paused else "healthy"


def problems(look: Look) -> tuple[str, ...]:
    """What is wrong, a line each; empty when all is well."""
    report, status = look.report, look.status
    found = [f"held ({name}): {reason}" for name, reason in report.holds.items() if name not in TOLD_ELSEWHERE]
    found += [
        f"{event}; {VANISHED_NOW[event.state]}, confirm it with `rabbitray resume --vanished`"
        for event in report.vanished
    ]
    if not report.connected:
        found.append("not connected to RabbitMQ")
    if report.fenced:
        found.append("another router has taken over")
    if report.start_error:
        found.append(f"workers cannot start: {report.start_error}")
    elif status.target and not status.workers and (status.pending_s or 0.0) > STARTING_TOO_LONG_S:
        full = status.short and not status.placeable
        room = f"the cluster is short of {status.short}" if full else "is there room in the cluster, or is it loading?"
        found.append(f"no worker has started for {status.pending_s:.0f} s: {room}")
    found += _silent_nodes(report.workers)
    if report.isolation_waits_s is not None:
        found.append(
            f"messages that may end workers wait to run alone: their worker has had no place in the cluster for "
            f"{report.isolation_waits_s:.0f} s"
        )
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


def held_back(look: Look) -> tuple[str, ...]:
    """What nobody counts for now, in a line."""
    if not (count := look.report.held_back):
        return ()
    return (
        f"up to {count:,} messages that the pool had through another RabbitMQ node are still to come back: for about a "
        "minute RabbitMQ waits for that node (consumer_disconnected_timeout)",
    )


def clocks(look: Look) -> tuple[str, ...]:
    """Which clocks are off by so much that figures are wrong, a line each.

    That a producer's is behind shows only where messages come that cannot have waited: the queue is empty.
    """
    report, found = look.report, []
    off = {place(worker): worker.clock_s for worker in report.workers if abs(worker.clock_s or 0.0) >= CLOCK_OFF_S}
    found += [
        f"the clock of node {name} is {abs(ahead_s):,.0f} s {'ahead' if ahead_s > 0 else 'behind'}: the times of its "
        "workers are corrected"
        for name, ahead_s in off.items()
        if ahead_s is not None
    ]
    if report.ahead:
        found.append(
            f"{report.ahead:,} messages were published by a clock that is ahead, the last by {report.ahead_s:,.0f} s: "
            "they are not in the latency"
        )
    came, late_s = report.received - look.earlier.received, report.newest_s or 0.0
    if look.ready == 0 and came and late_s >= BEHIND_S:
        found.append(
            f"the queue is empty, and what comes was published {late_s:,.0f} s ago: a producer's clock is behind, and "
            "the latency is too long by that, or the messages were on their way for so long"
        )
    return tuple(found)


def _silent_nodes(workers: Iterable[WorkerRow]) -> Iterator[str]:
    """A line for each node that gives no answer."""
    silent: dict[str, list[WorkerRow]] = {}
    for worker in workers:
        if worker.silent_s is not None:
            silent.setdefault(place(worker), []).append(worker)
    for name, there in silent.items():
        for_s = max(worker.silent_s or 0.0 for worker in there)
        batches = sum(worker.batches for worker in there)
        yield f"node {name} has given no answer for {for_s:.0f} s: {len(there)} workers with {batches} batches"


def too_many_dead(endings: LastEndings) -> str:
    """That most jobs end in the dead letters, and by which error."""
    share = f"{endings.dead} of the last {endings.jobs} jobs that ended are dead letters"
    row = f", the last {endings.in_a_row:,} one after another" if endings.in_a_row > 1 else ""
    error = f"; {error_line(endings.error)}" if endings.error else ""
    return share + row + error
