"""What the autoscaler and people see of the pool: its status, and the outcomes of the last seconds. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, fields

from rabbitray.actors.message.reply import Part

RING_SIZE = 1_000
RING_TTL_S = 3_600.0


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
    growable: int | None = None  # how many more workers the nodes have room for that may come; None: unknown
    silent: tuple[str, ...] = ()  # nodes with workers of ours that give no answer
    silent_workers: int = 0  # on them
    lent: int = 0  # places of `target` that the quarantine's workers have meanwhile
    beside: int = 0  # messages of `held` that no ready worker has: at workers that leave, and suspects
    window_fixed: str | None = None  # why the window must not change
    short: str | None = None  # the resources that keep `placeable` from being more
    backlog: bool = False  # the queue held more than a window, as the autoscaler told last


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the router has counted since its start. Every job and every message is in exactly one of its sums.

    Jobs: each outcome that a worker told, or the router in its place, is counted once, as `done` (its row is
    committed), `duplicates` (its key had a result, whatever this run came to), `retried` (its copy is in a rung),
    `dead` (its copy is in the dead letters), `spared` (a failure in an outage, back in a rung and not charged), or
    `again` (it could not be made safe: the message is delivered again and its job counts once more then).

    Messages: `acked` are those all of whose jobs have such an outcome, and those that are acked without a run:
    `postponed` (not due yet, back in a rung), `strays` (copies that were meant for another queue), `split` (packed
    messages that were taken apart, each record a message of its own from then on) and `renewed` (put back as a fresh
    copy, of the `near_limit` that came near the delivery limit of their queue). Where each message is one job, and no
    connection was lost (see RouterReport: of an ended one nothing can be acked), so

        acked = done + duplicates + retried + dead + spared + postponed + strays + split + renewed
        received = acked + given back + held

    `skipped`: those of the `duplicates` that were not run. `late`: messages that RabbitMQ took back by its
    `consumer_timeout`; they are delivered again.
    """

    done: int = 0
    duplicates: int = 0
    retried: int = 0
    dead: int = 0
    acked: int = 0
    postponed: int = 0
    spared: int = 0
    strays: int = 0
    split: int = 0
    again: int = 0
    near_limit: int = 0
    renewed: int = 0
    skipped: int = 0
    late: int = 0

    @property
    def outcomes(self) -> int:
        """Outcomes of jobs that are safe."""
        return self.done + self.duplicates + self.retried + self.dead + self.spared

    @property
    def acked_of_one_job(self) -> int:
        """What `acked` is where each message is one job."""
        return self.outcomes + self.postponed + self.strays + self.split + self.renewed

    @property
    def runs(self) -> int:
        """Runs of jobs that came to an end."""
        return self.done + self.duplicates - self.skipped + self.retried + self.dead

    def since(self, before: Counts) -> Counts:
        """What was added after `before`."""
        return Counts(**{name: getattr(self, name) - getattr(before, name) for name in _COUNTED})

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in _COUNTED})


_COUNTED = tuple(one.name for one in fields(Counts))


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorCount:
    """How often one class of error was an outcome lately, the newest text of it, and how many seconds old that is."""

    error_class: str
    count: int
    example: str
    last_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentOutcome:
    """One failed job, or `count` done ones of one part. `at`: monotonic seconds."""

    at: float
    status: str  # DONE, RETRY, DEAD
    count: int = 1
    key: str | None = None
    error_class: str = ""
    error: str = ""
    reason: str = ""


class RecentOutcomes:
    """A ring of the last 1,000 outcomes; older than an hour they are forgotten."""

    def __init__(self, size: int = RING_SIZE, ttl_s: float = RING_TTL_S) -> None:
        self._ring: deque[RecentOutcome] = deque(maxlen=size)
        self._ttl_s = ttl_s

    def add(self, outcomes: Iterable[RecentOutcome]) -> None:
        """Remembers; the oldest leave when the ring is full."""
        self._ring.extend(outcomes)

    def recent(self, now: float) -> list[RecentOutcome]:
        """Those within the time to live, newest last."""
        while self._ring and self._ring[0].at < now - self._ttl_s:
            self._ring.popleft()
        return list(self._ring)

    def errors(self, now: float, most: int = 10) -> tuple[ErrorCount, ...]:
        """The most frequent error classes with an example text: what `status` shows."""
        failed = [outcome for outcome in self.recent(now) if outcome.status != "DONE"]
        newest = {outcome.error_class: outcome for outcome in failed}
        counts = Counter(outcome.error_class for outcome in failed)
        return tuple(
            ErrorCount(
                error_class=name,
                count=count,
                example=newest[name].error,
                last_s=round(max(0.0, now - newest[name].at), 1),
            )
            for name, count in counts.most_common(most)
        )


def outcomes_of(part: Part, now: float) -> list[RecentOutcome]:
    """What a part adds to the ring: one entry for its done jobs together, one for each failed one."""
    done = [RecentOutcome(at=now, status="DONE", count=part.rows)] if part.rows else []
    return done + [
        RecentOutcome(
            at=now,
            status="RETRY" if failure.verdict == "retry" else "DEAD",
            key=failure.key,
            error_class=failure.error_class,
            error=failure.error[:200],
            reason=failure.reason,
        )
        for failure in part.failures
    ]
