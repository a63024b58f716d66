"""`alerts.yml` from the table of measurements: each target of the report, and what else an operator must know.

`python -m rabbitray.cluster.deploy.prometheus.generate` writes the file; a test compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from rabbitray.actors.telemetry import kpi
from rabbitray.actors.telemetry.kpi import Kpi, Target
from rabbitray.cluster.deploy.prometheus import expressions as ql

FILE: Final = Path(__file__).parent / "alerts.yml"
RUNBOOK: Final = "docs/operations.md#"
HEAD: Final = """# Alert rules for rabbitray: each target of the report (7.1) and what else must be known.
# Made from actors/telemetry/kpi.py by `python -m rabbitray.cluster.deploy.prometheus.generate`.
# Severity: critical (somebody acts now), warning (today), info (a target is missed).
"""
BACKLOG: Final = f"{ql.value(kpi.QUEUE_DEPTH)} > {kpi.QUEUE_DEPTH.target.most:g}" if kpi.QUEUE_DEPTH.target else ""
NO_BACKLOG: Final = BACKLOG.replace(" > ", " <= ")

Severity = Literal["critical", "warning", "info"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One rule. `lasts`: how long `expr` must hold. `action`: the first thing to do."""

    name: str
    expr: str
    lasts: str
    severity: Severity
    summary: str
    action: str


def _target(one: Kpi) -> Target:
    assert one.target is not None, one.name
    return one.target


def _slow(name: str, one: Kpi, what: str, action: str, condition: str = "") -> list[Alert]:
    """The two rules of a duration: its mean and its 95th percentile."""
    target = _target(one)
    found = []
    for end, expr, most in (
        ("", ql.mean(one), target.most),
        ("P95", ql.quantile(0.95, one), target.p95_most),
    ):
        figure = "95th percentile" if end else "mean"
        found.append(
            Alert(
                name=f"Rabbitray{name}{end}",
                expr=f"{expr} > {most:g}" + (f"\nand {condition}" if condition else ""),
                lasts="10m",
                severity="info",
                summary=f"{what} of {{{{ $labels.pool }}}}: {figure} {{{{ $value | humanize }}}} ms, "
                f"target {target.text}",
                action=action,
            )
        )
    return found


def _speeds() -> list[Alert]:
    published, consumed, worker = _target(kpi.PUBLISHED), _target(kpi.CONSUMED), _target(kpi.WORKER_THROUGHPUT)
    slow = f"{ql.mean(kpi.WRITE_DURATION)} > {_target(kpi.WRITE_DURATION).most:g}"
    return [
        Alert(
            name="RabbitrayPublishedLow",
            expr=f"{ql.rate(kpi.PUBLISHED)} < {published.least:g}\nand {slow}",
            lasts="10m",
            severity="info",
            summary=f"{{{{ $labels.queue }}}} gets {{{{ $value | humanize }}}} msg/s while publishing is slow, "
            f"target {published.text}",
            action="Look at the broker's disk and alarms; publish pipelined or packed.",
        ),
        Alert(
            name="RabbitrayConsumedLow",
            expr=f"{ql.rate(kpi.CONSUMED)} < {consumed.least:g}\nand {BACKLOG}",
            lasts="10m",
            severity="warning",
            summary=f"{{{{ $labels.pool }}}} finishes {{{{ $value | humanize }}}} msg/s with a backlog, "
            f"target {consumed.text}",
            action="See why: `rabbitray top`. Raise --max-size or make the handler faster.",
        ),
        Alert(
            name="RabbitrayWorkerThroughputLow",
            expr=f"avg by ({ql.BY}) ({ql.series(kpi.WORKER_THROUGHPUT)}) < {worker.least:g}\nand {BACKLOG}",
            lasts="10m",
            severity="info",
            summary=f"A worker of {{{{ $labels.pool }}}} does {{{{ $value | humanize }}}} jobs/s with a backlog, "
            f"target {worker.text}",
            action="An async or batch handler does more for each worker; see the slowest jobs in `rabbitray report`.",
        ),
    ]


def _backlog() -> list[Alert]:
    depth = _target(kpi.QUEUE_DEPTH)
    return [
        Alert(
            name="RabbitrayQueueDepthHigh",
            expr=f"{ql.value(kpi.QUEUE_DEPTH)} > {depth.most:g}",
            lasts="10m",
            severity="warning",
            summary=f"{{{{ $value | humanize }}}} messages wait in {{{{ $labels.queue }}}}, target {depth.text}",
            action="Is the pool at its largest size? `rabbitray status` shows the last decisions and their reasons.",
        ),
        Alert(
            name="RabbitrayQueueDepthCritical",
            expr=f"{ql.value(kpi.QUEUE_DEPTH)} > {depth.alert_above:g}",
            lasts="5m",
            severity="critical",
            summary=f"{{{{ $value | humanize }}}} messages wait in {{{{ $labels.queue }}}}, target {depth.text}",
            action="Raise --max-size, or `rabbitray scale N`; check for a hold and for failing jobs first.",
        ),
    ]


def _resources() -> list[Alert]:
    cpu, memory = _target(kpi.WORKER_CPU), _target(kpi.WORKER_MEMORY)
    cpu_mean = f"avg by ({ql.BY}) ({ql.series(kpi.WORKER_CPU)})"
    biggest = ql.value(kpi.WORKER_MEMORY, by="pool, queue, worker")
    return [
        Alert(
            name="RabbitrayWorkerCpuHigh",
            expr=f"{cpu_mean} > {cpu.most:g}",
            lasts="15m",
            severity="info",
            summary=f"Workers of {{{{ $labels.pool }}}} use {{{{ $value | humanize }}}}% of a core, target {cpu.text}",
            action="Workers are near their limit: raise --max-size, or give the handler less to do.",
        ),
        Alert(
            name="RabbitrayWorkerCpuLow",
            expr=f"{cpu_mean} < {cpu.least:g}\nand {BACKLOG}",
            lasts="15m",
            severity="info",
            summary=f"Workers of {{{{ $labels.pool }}}} use {{{{ $value | humanize }}}}% of a core with a backlog, "
            f"target {cpu.text}",
            action="They wait for something: make the handler async, or raise QUEUE_CONCURRENCY.",
        ),
        Alert(
            name="RabbitrayWorkerMemoryHigh",
            expr=f"{biggest} > {memory.most:g}",
            lasts="15m",
            severity="info",
            summary=f"{{{{ $labels.worker }}}} holds {{{{ $value | humanize1024 }}}}B, target {memory.text}",
            action="Watch whether it grows; a handler that loads a model may need more, then change the target.",
        ),
        Alert(
            name="RabbitrayWorkerMemoryCritical",
            expr=f"{biggest} > {memory.alert_above:g}",
            lasts="5m",
            severity="warning",
            summary=f"{{{{ $labels.worker }}}} holds {{{{ $value | humanize1024 }}}}B, target {memory.text}",
            action="A leak ends in Ray's memory monitor killing workers: restart the pool, find the leak.",
        ),
    ]


def _errors() -> list[Alert]:
    found: list[Alert] = []
    for name, one, severity, what, action in _SHARES:
        target = _target(one)
        found.append(
            Alert(
                name=f"Rabbitray{name}",
                expr=f"{ql.value(one)} > {target.most:g}",
                lasts="5m",
                severity=severity,
                summary=f"{{{{ $value | humanize }}}}% of the runs of {{{{ $labels.pool }}}} {what}, "
                f"target {target.text}",
                action=action,
            )
        )
    return found


_SHARES: Final[tuple[tuple[str, Kpi, Severity, str, str], ...]] = (
    (
        *("ErrorRateHigh", kpi.ERROR_RATE, "warning", "fail"),
        "`rabbitray status` names the most frequent errors with an example.",
    ),
    (
        *("RetryRateHigh", kpi.RETRY_RATE, "warning", "go to a retry rung"),
        "A service that the handler needs is probably down or slow.",
    ),
    (
        *("DlqRateHigh", kpi.DLQ_RATE, "warning", "end in the dead letters"),
        "`rabbitray dlq ls`; after the cause is mended, `rabbitray dlq replay`.",
    ),
)


def _missing(one: Kpi) -> str:
    """No pool reports the gauge, or one does not that did within the last hour: another pool must not hide it."""
    within_the_hour = f"max by ({ql.BY}) (max_over_time({ql.series(one)}[1h]))"
    return f"absent({ql.series(one)})\nor ({within_the_hour} unless {ql.value(one)})"


def _contact() -> list[Alert]:
    return [
        Alert(
            name="RabbitrayPoolMissing",
            expr=_missing(kpi.CONNECTED),
            lasts="5m",
            severity="critical",
            summary="{{ if $labels.pool }}{{ $labels.pool }} reports nothing any more"
            "{{ else }}No pool reports any measurement{{ end }}",
            action="Is the job running (`ray job list`)? Is Prometheus scraping Ray (scrape.yml)?",
        ),
        Alert(
            name="RabbitrayDisconnected",
            expr=f"{ql.value(kpi.CONNECTED)} < 1",
            lasts="2m",
            severity="critical",
            summary="{{ $labels.pool }} is not connected to RabbitMQ",
            action="`rabbitray check` says why: broker down, credentials, network.",
        ),
    ]


def _standstill() -> list[Alert]:
    wanted, ready = ql.value(kpi.WORKERS_WANTED), ql.value(kpi.WORKERS_READY)
    return [
        Alert(
            name="RabbitrayHeld",
            expr=f"{ql.value(kpi.HOLD)} > 0",
            lasts="10m",
            severity="warning",
            summary="{{ $labels.pool }} consumes nothing: it is paused or held",
            action="`rabbitray status` tells the reason; `rabbitray resume` ends a pause.",
        ),
        Alert(
            name="RabbitrayWorkersMissing",
            expr=f"{wanted} - {ready} > 0",
            lasts="10m",
            severity="warning",
            summary="{{ $labels.pool }} lacks {{ $value }} of the workers that it wants",
            action="`ray status`: has the cluster room? `rabbitray status` shows why a worker cannot start.",
        ),
        Alert(
            name="RabbitrayLoopBlocked",
            expr=f"{ql.value(kpi.LOOP_LAG)} > 1000",
            lasts="2m",
            severity="warning",
            summary="The router of {{ $labels.pool }} runs {{ $value | humanize }} ms late",
            action="Its node is overloaded: heartbeats are at risk. Keep workers off the head node.",
        ),
    ]


def alerts() -> list[Alert]:
    """All rules, those of the report first."""
    return [
        *_slow(
            "WriteSlow",
            kpi.WRITE_DURATION,
            "Publish to confirm",
            "Look at the broker's disk; a quorum queue waits for its slowest majority.",
        ),
        *_slow(
            "ReadSlow",
            kpi.READ_DURATION,
            "Wait for dispatch, without a backlog,",
            "All workers are busy: raise --max-size, or lower QUEUE_BATCH_TIMEOUT.",
            NO_BACKLOG,
        ),
        *_slow(
            "ProcessingSlow",
            kpi.PROCESSING_DURATION,
            "A job",
            "`rabbitray report` lists the slowest jobs; look at what the handler waits for.",
        ),
        *_speeds(),
        *_backlog(),
        *_resources(),
        *_errors(),
        *_contact(),
        *_standstill(),
    ]


def file() -> str:
    """The content of `alerts.yml`."""
    lines = [HEAD + "groups:", "  - name: rabbitray", "    rules:"]
    for alert in alerts():
        lines += [f"      - alert: {alert.name}", "        expr: |-"]
        lines += [f"          {line}" for line in alert.expr.splitlines()]
        lines += [
            f"        for: {alert.lasts}",
            f"        labels: {{severity: {alert.severity}}}",
            "        annotations:",
            f"          summary: {_quoted(alert.summary)}",
            f"          action: {_quoted(alert.action)}",
            f"          runbook: {_quoted(RUNBOOK + alert.name.lower())}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


if __name__ == "__main__":
    FILE.write_text(file())
