"""Every measurement of rabbitray in one table: name, unit, what it means, and the report's target for it. Pure.

The names are those of the report (7.1) and continue them. The code records under `name`, in `unit`; Ray's
Prometheus endpoint shows `prometheus`, OTLP carries `otel`. Dashboards, alerts, `top` and the docs read this table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]
Unit = Literal["ms", "bytes", "percent", "messages", "rows", "workers", "queues", "per_s", "flag"]
Verdict = Literal["good", "missed", "alert"]

POOL: Final = ("pool", "queue")
WORKER: Final = ("pool", "queue", "worker")
MB: Final = 1_000_000

DURATION_BUCKETS_MS: Final = (
    *(1.0, 2.0, 5.0, 8.0, 10.0, 15.0, 20.0, 50.0, 100.0, 250.0, 500.0),
    *(1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0),
)
"""Histogram bounds in ms; every target of the report is one of them, so that its percentile can be told.

Ray hands on only the bucket counts and makes `_sum` from the middles of the buckets (tried with 2.60: 3.2 ms counts as
3.5 ms): a mean on its endpoint is as exact as these bounds. Over OTLP it is exact.
"""

ROWS_BUCKETS: Final = (1.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0)

_SUFFIXES: Final[dict[str, str]] = {"ms": "_ms", "bytes": "_bytes", "percent": "_percent", "per_s": "_per_s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the report asks of a figure, in the unit of its measurement; for a histogram `most` is about the mean.

    `per_s`: the figure is the rate of a counter. `while_backlog`: only a pool with a backlog can miss it.
    """

    text: str
    most: float | None = None
    least: float | None = None
    p95_most: float | None = None
    alert_above: float | None = None
    per_s: bool = False
    while_backlog: bool = False

    def verdict(self, value: float) -> Verdict:
        """How a figure (a mean, for a histogram) stands against the target."""
        if self.alert_above is not None and value > self.alert_above:
            return "alert"
        above = self.most is not None and value > self.most
        below = self.least is not None and value < self.least
        return "missed" if above or below else "good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kpi:
    """One measurement. `name`: what the code records under; `help`: what people read."""

    name: str
    kind: Kind
    unit: Unit
    help: str
    labels: tuple[str, ...] = POOL
    target: Target | None = None
    buckets: tuple[float, ...] = field(default=())
    convention: str = ""

    @property
    def ray(self) -> str:
        """The name for `ray.util.metrics`, without what Ray adds itself."""
        return "rabbitray_" + self.name.replace(".", "_") + _SUFFIXES.get(self.unit, "")

    @property
    def prometheus(self) -> str:
        """The name on Ray's Prometheus endpoint; a histogram has `_bucket`, `_sum` and `_count` behind it."""
        return "ray_" + self.ray + ("_total" if self.kind == "counter" else "")

    @property
    def otel(self) -> str:
        """The name over OTLP: that of the messaging conventions where they have one."""
        return self.convention or "rabbitray." + self.name


def _duration(name: str, text: str, *, target: Target | None = None, convention: str = "") -> Kpi:
    return Kpi(
        name=name,
        kind="histogram",
        unit="ms",
        help=text,
        target=target,
        buckets=DURATION_BUCKETS_MS,
        convention=convention,
    )


def _counter(name: str, text: str, *, target: Target | None = None, convention: str = "") -> Kpi:
    return Kpi(name=name, kind="counter", unit="messages", help=text, target=target, convention=convention)


def _gauge(name: str, unit: Unit, text: str, *, target: Target | None = None, labels: tuple[str, ...] = POOL) -> Kpi:
    return Kpi(name=name, kind="gauge", unit=unit, help=text, labels=labels, target=target)


# the report's, in its order

WRITE_DURATION: Final = _duration(
    "queue.write.duration",
    "From publish to the broker's confirm: retry copies, dead letters and jobs published inside the Ray session.",
    target=Target(text="<10ms, p95 <15ms", most=10, p95_most=15),
    convention="messaging.client.operation.duration",
)
READ_DURATION: Final = _duration(
    "queue.read.duration",
    "From RabbitMQ's delivery to the dispatch to a worker, the median of each batch. With a backlog the window is "
    "filled on purpose, and messages wait in it.",
    target=Target(text="<5ms, p95 <8ms", most=5, p95_most=8),
)
PROCESSING_DURATION: Final = _duration(
    "message.processing.duration",
    "Time of one job in the handler; up to 16 jobs of each part of a batch are measured.",
    target=Target(text="<500ms, p95 <1000ms", most=500, p95_most=1_000),
    convention="messaging.process.duration",
)
PUBLISHED: Final = _counter(
    "queue.messages.published",
    "Messages that entered the queue, whoever published them, as the autoscaler sees it: depth and deliveries.",
    target=Target(text=">100/s", least=100, per_s=True, while_backlog=True),
)
CONSUMED: Final = _counter(
    "queue.messages.consumed",
    "Messages that were finished and acknowledged.",
    target=Target(text=">200/s", least=200, per_s=True, while_backlog=True),
    convention="messaging.client.consumed.messages",
)
WORKER_THROUGHPUT: Final = _gauge(
    "worker.throughput",
    "per_s",
    "Jobs that one worker finished in a second, over the last seconds.",
    target=Target(text=">20 msg/s per worker", least=20, while_backlog=True),
    labels=WORKER,
)
QUEUE_DEPTH: Final = _gauge(
    "queue.depth",
    "messages",
    "Messages ready in the queue, not yet delivered.",
    target=Target(text="<1000, alert >5000", most=1_000, alert_above=5_000),
)
WORKER_CPU: Final = _gauge(
    "worker.cpu.utilization",
    "percent",
    "CPU of one worker's process in percent of one core.",
    target=Target(text="60-80%", least=60, most=80, while_backlog=True),
    labels=WORKER,
)
WORKER_MEMORY: Final = _gauge(
    "worker.memory.usage",
    "bytes",
    "Resident memory of one worker's process.",
    target=Target(text="<200MB, alert >500MB", most=200 * MB, alert_above=500 * MB),
    labels=WORKER,
)
ERROR_RATE: Final = _gauge(
    "queue.error.rate",
    "percent",
    "Share of runs that failed in the last minute.",
    target=Target(text="<1%", most=1),
)
RETRY_RATE: Final = _gauge(
    "message.retry.rate",
    "percent",
    "Share of runs that were sent to a retry rung in the last minute.",
    target=Target(text="<5%", most=5),
)
DLQ_RATE: Final = _gauge(
    "message.dlq.rate",
    "percent",
    "Share of runs that ended in the dead letters in the last minute.",
    target=Target(text="<0.1%", most=0.1),
)

# ours

DONE: Final = _counter("messages.done", "Jobs whose result was committed.")
DUPLICATES: Final = _counter("messages.duplicates", "Jobs whose key had a result already, run or skipped.")
SKIPPED: Final = _counter("messages.skipped", "Duplicates that were acked without a run.")
UNASKED: Final = _counter(
    "messages.unasked", "Jobs that ran without the question whether they have a result: the store did not answer."
)
CONFLICTS: Final = _counter(
    "messages.conflicts", "Jobs whose key had the result of another message: of another payload, type or user."
)
RETRIED: Final = _counter("messages.retried", "Failed runs that went to a retry rung.")
DEAD: Final = _counter("messages.dead", "Jobs that went to the dead letters.")
POSTPONED: Final = _counter(
    "messages.postponed", "Messages that were put back at no charge: they were not due, or failed in an outage."
)
STRAYS: Final = _counter("messages.strays", "Copies that were meant for another queue; they are acked and not run.")
NEAR_LIMIT: Final = _counter(
    "messages.near_limit",
    "Messages that came after 10 deliveries or more: RabbitMQ drops them at the delivery limit of their queue.",
)
LATE: Final = _counter(
    "messages.late",
    "Messages that RabbitMQ took back and delivers again: they were held longer than its consumer_timeout.",
)
PUBLISH_ERRORS: Final = _counter("queue.publish.errors", "Publishes that the broker did not confirm.")
HELD: Final = _gauge("messages.held", "messages", "Messages delivered to the router and not yet acknowledged.")
IN_FLIGHT: Final = _gauge("messages.in_flight", "messages", "Messages that are at workers.")
WINDOW: Final = _gauge("queue.window", "messages", "The prefetch window.")
WORKERS_WANTED: Final = _gauge("workers.wanted", "workers", "Workers that the autoscaler wants.")
WORKERS_READY: Final = _gauge("workers.ready", "workers", "Workers that can take work.")
WORKERS_STARTING: Final = _gauge("workers.starting", "workers", "Workers that were asked for and are not ready yet.")
HOLD: Final = _gauge("pool.hold", "flag", "1 while nothing is consumed: paused, an outage, or the store is away.")
CONNECTED: Final = _gauge("pool.connected", "flag", "1 while the router is connected to RabbitMQ.")
TOO_MANY_DEAD: Final = _gauge(
    "pool.too_many_dead",
    "flag",
    "1 while too many of the last jobs ended in the dead letters: most of the last 100, or 20 in a row (setting "
    "dead_in_a_row). An hour after the last ending it is 0 again.",
)
QUEUES_VANISHED: Final = _gauge(
    "queues.vanished",
    "queues",
    "Queues of ours (main, rungs, dead letters, dropped) that were gone, until somebody confirms it.",
)
DECLARED_AGAIN: Final = Kpi(
    name="queues.declared_again",
    kind="counter",
    unit="queues",
    help="Queues of ours that were gone and were declared anew, and copies that found no way until that was done.",
)
LOOP_LAG: Final = _gauge("pool.loop_lag", "ms", "How late the router's event loop runs; above a second it is blocked.")
COMMIT_DURATION: Final = _duration("store.commit.duration", "One commit of results: deduplication, insert, flush.")
COMMIT_ROWS: Final = Kpi(
    name="store.commit.rows",
    kind="histogram",
    unit="rows",
    help="Result rows offered to one commit.",
    buckets=ROWS_BUCKETS,
)

REPORT: Final = (
    *(WRITE_DURATION, READ_DURATION, PROCESSING_DURATION),
    *(PUBLISHED, CONSUMED, WORKER_THROUGHPUT),
    *(QUEUE_DEPTH, WORKER_CPU, WORKER_MEMORY),
    *(ERROR_RATE, RETRY_RATE, DLQ_RATE),
)
"""The KPIs of the report, 7.1."""

OURS: Final = (
    *(DONE, DUPLICATES, SKIPPED, UNASKED, CONFLICTS, RETRIED, DEAD, PUBLISH_ERRORS),
    *(POSTPONED, STRAYS, NEAR_LIMIT, LATE),
    *(HELD, IN_FLIGHT, WINDOW),
    *(WORKERS_WANTED, WORKERS_READY, WORKERS_STARTING),
    *(HOLD, CONNECTED, TOO_MANY_DEAD, LOOP_LAG),
    *(QUEUES_VANISHED, DECLARED_AGAIN),
    *(COMMIT_DURATION, COMMIT_ROWS),
)

TABLE: Final = {kpi.name: kpi for kpi in (*REPORT, *OURS)}
"""All measurements by name."""
