"""The values of a status: what was looked at, and the picture of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from rabbitray.actors.router.dispatch.node_watch import NodeEvent
from rabbitray.actors.router.endings import NONE_ENDED, LastEndings
from rabbitray.actors.router.holds.vanished import VanishedQueue
from rabbitray.actors.router.report import RouterReport, WorkerRow
from rabbitray.actors.router.status import Counts, ErrorCount, PoolStatus
from rabbitray.actors.store.answers import StoreStats
from rabbitray.actors.telemetry.metrics import Percentiles
from rabbitray.autoscale.loop import DecisionRecord

State = Literal["healthy", "paused", "degraded"]


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
    """Workers. `possible`: what the cluster has or may get room for, with those that are there; `fixed`: by `scale N`;
    `lent`: places that workers have meanwhile which run suspects of a crash alone; `short`: the resources that keep
    `possible` from being more, as far as the nodes of now go."""

    wanted: int
    had: int
    busy: int
    starting: int
    retiring: int
    possible: int | None
    fixed: int | None
    lent: int = 0
    short: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """Where messages are now. `uncommitted_bytes`: of results that wait for the store.

    `retries_out` went into rungs and have not come back, `retries_overdue` of them should have, the others are expected
    until `retries_until` (ISO 8601, UTC) at the latest; `dropped` were moved by the broker and are not collected yet.
    """

    ready: int | None
    held: int
    in_flight: int
    quarantined: int
    oldest_held_s: float | None
    uncommitted_bytes: int
    retries_out: int = 0
    retries_until: str | None = None
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
    `warnings`: what makes figures wrong, and the pool not worse. `vanished`: queues that were gone, until somebody
    confirms it. `environment_s`: how long the last worker waited until its place and its runtime_env were there.
    """

    pool: str
    queue: str
    state: State
    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    size: Sizes
    messages: Messages
    window: int
    window_fixed: str | None = None
    batch_size: int
    holds: Mapping[str, str]
    vanished: tuple[VanishedQueue, ...] = ()
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
    broker: str
    spans_lost: int
    workers: tuple[WorkerRow, ...]
    node_events: tuple[NodeEvent, ...] = ()
    environment_s: float | None = None

    def on_host(self, host: str | None) -> Picture:
        """The same with those workers only whose machine has this in its name, or this address; None: all of them."""
        if host is None:
            return self
        return replace(
            self, workers=tuple(one for one in self.workers if host in (one.host or "") or host == one.address)
        )

    def as_json(self) -> dict[str, Any]:  # Any: JSON values
        """As `status --json` and `top --json` print it."""
        return asdict(self)
