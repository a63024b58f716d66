"""Grafana dashboards from the table of measurements, in the conventions of Ray's own dashboards.

Variables datasource, SessionName, Instance and Cluster as Ray has them, and Pool; two panels of 12 x 8 a row.
`python -m rabbitray.cluster.deploy.grafana.generate` writes the files; a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rabbitray.actors.telemetry import kpi
from rabbitray.actors.telemetry.kpi import Kpi
from rabbitray.cluster.deploy.prometheus import expressions as ql

FOLDER: Final = Path(__file__).parent
WIDTH: Final = 12
HEIGHT: Final = 8
SPAN: Final = "$__rate_interval"
FILTER: Final = 'SessionName=~"$SessionName",instance=~"$Instance",ray_io_cluster=~"$Cluster",pool=~"$Pool"'
UNITS: Final = {
    "ms": "ms",
    "bytes": "bytes",
    "percent": "percent",
    "messages": "short",
    "rows": "short",
    "workers": "short",
    "queues": "short",
    "per_s": "ops",
    "flag": "short",
}

Json = dict[str, Any]  # Any: JSON values


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One graph. `lines`: (expression, legend). `limit`: a line drawn at the target."""

    title: str
    about: str
    unit: str
    lines: Sequence[tuple[str, str]]
    limit: float | None = None


def _duration(title: str, one: Kpi) -> Panel:
    lines = [(ql.mean(one, FILTER, span=SPAN), "mean {{pool}}")]
    lines += [(ql.quantile(share, one, FILTER, span=SPAN), f"p{share * 100:g} {{{{pool}}}}") for share in (0.95, 0.99)]
    return _panel(title, one, lines)


def _values(title: str, *kpis: Kpi, by: str = ql.BY) -> Panel:
    """Gauges side by side; the first one gives unit and target."""
    legend = "{{worker}}" if "worker" in by else "{{pool}}"
    names = [one.name.rpartition(".")[2].replace("_", " ") for one in kpis]
    lines = [
        (ql.value(one, FILTER, by), legend if len(kpis) == 1 else f"{name} {legend}")
        for one, name in zip(kpis, names, strict=True)
    ]
    return _panel(title, kpis[0], lines, about=" ".join(one.help for one in kpis))


def _rates(title: str, *kpis: Kpi) -> Panel:
    """Counters as rates side by side."""
    lines = [(ql.rate(one, FILTER, span=SPAN), f"{one.name.rpartition('.')[2]} {{{{pool}}}}") for one in kpis]
    return _panel(title, kpis[0], lines, about=" ".join(one.help for one in kpis), unit="ops")


def _panel(
    title: str, one: Kpi, lines: Sequence[tuple[str, str]], *, about: str | None = None, unit: str | None = None
) -> Panel:
    target = one.target
    text = about or one.help
    limit = None
    if target is not None:
        text += f" Target of the report: {target.text}."
        limit = target.most if target.most is not None else target.least
    return Panel(title=title, about=text, unit=unit or UNITS[one.unit], lines=lines, limit=limit)


def queue_performance() -> Json:
    """Is it keeping up, what fails, what did the autoscaler do."""
    panels = [
        _values("Queue depth", kpi.QUEUE_DEPTH),
        _rates("Throughput", kpi.CONSUMED, kpi.PUBLISHED),
        _duration("Write: publish to confirm", kpi.WRITE_DURATION),
        _duration("Read: delivery to dispatch", kpi.READ_DURATION),
        _duration("Processing of a job", kpi.PROCESSING_DURATION),
        _values("Error rate", kpi.ERROR_RATE),
        _values("Retry rate", kpi.RETRY_RATE),
        _values("Dead-letter rate", kpi.DLQ_RATE),
        _rates("Outcomes", kpi.DONE, kpi.DUPLICATES, kpi.CONFLICTS, kpi.RETRIED, kpi.DEAD, kpi.PUBLISH_ERRORS),
        _rates("Not run, put back, unasked, and strays", kpi.SKIPPED, kpi.POSTPONED, kpi.UNASKED, kpi.STRAYS),
        _values("Queues that vanished", kpi.QUEUES_VANISHED),
        _rates("Queues declared again", kpi.DECLARED_AGAIN),
        _rates("Near the delivery limit, and late", kpi.NEAR_LIMIT, kpi.LATE),
        _values("Held messages and window", kpi.HELD, kpi.IN_FLIGHT, kpi.WINDOW),
        _duration("Commit time", kpi.COMMIT_DURATION),
        _panel("Commit size", kpi.COMMIT_ROWS, [(ql.mean(kpi.COMMIT_ROWS, FILTER, span=SPAN), "rows {{pool}}")]),
    ]
    return dashboard("rabbitray: queue performance", "rabbitrayQueuePerformance", panels)


def worker_metrics() -> Json:
    """How many workers there are and what each one does."""
    worker = "pool, queue, worker"
    panels = [
        _values("Workers", kpi.WORKERS_WANTED, kpi.WORKERS_READY, kpi.WORKERS_STARTING),
        _values("Jobs per second of each worker", kpi.WORKER_THROUGHPUT, by=worker),
        _values("CPU of each worker", kpi.WORKER_CPU, by=worker),
        _values("Memory of each worker", kpi.WORKER_MEMORY, by=worker),
        _duration("Processing of a job", kpi.PROCESSING_DURATION),
        _values("Router: lag of the event loop", kpi.LOOP_LAG),
        _values("Router: connected, held, too many dead", kpi.CONNECTED, kpi.HOLD, kpi.TOO_MANY_DEAD),
        _values("Queue depth", kpi.QUEUE_DEPTH),
    ]
    return dashboard("rabbitray: workers", "rabbitrayWorkerMetrics", panels)


def dashboard(title: str, uid: str, panels: Sequence[Panel]) -> Json:
    """The JSON that Grafana imports."""
    return {
        "annotations": {"list": []},
        "editable": True,
        "graphTooltip": 1,
        "links": [],
        "panels": [_drawn(panel, number) for number, panel in enumerate(panels)],
        "refresh": "10s",
        "schemaVersion": 27,
        "style": "dark",
        "tags": ["rabbitray"],
        "templating": {"list": _variables()},
        "time": {"from": "now-30m", "to": "now"},
        "timepicker": {},
        "timezone": "",
        "title": title,
        "uid": uid,
        "version": 1,
    }


def _drawn(panel: Panel, number: int) -> Json:
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "orange", "value": panel.limit})
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": "${datasource}",
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": WIDTH * (number % 2), "y": HEIGHT * (number // 2)},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": {
                    "lineWidth": 1,
                    "fillOpacity": 8,
                    "thresholdsStyle": {"mode": "off" if panel.limit is None else "line"},
                },
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max", "lastNotNull"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"expr": expr, "legendFormat": legend, "refId": chr(ord("A") + n), "exemplar": True}
            for n, (expr, legend) in enumerate(panel.lines)
        ],
    }


def _variables() -> list[Json]:
    anchor = kpi.CONNECTED.prometheus
    return [
        {
            "name": "datasource",
            "type": "datasource",
            "query": "prometheus",
            "hide": 0,
            "refresh": 1,
            "current": {"selected": False},
        },
        _variable("SessionName", f"label_values({anchor}, SessionName)", ".+", "A Ray session."),
        _variable(
            "Instance",
            f'label_values({kpi.WORKER_MEMORY.prometheus}{{SessionName=~"$SessionName"}}, instance)',
            ".+",
            "Nodes, by address.",
            multi=True,
        ),
        _variable("Cluster", f"label_values({anchor}, ray_io_cluster)", ".*", "A KubeRay cluster; All elsewhere."),
        _variable("Pool", f'label_values({anchor}{{SessionName=~"$SessionName"}}, pool)', ".+", "Pools.", multi=True),
    ]


def _variable(name: str, query: str, everything: str, about: str, *, multi: bool = False) -> Json:
    return {
        "name": name,
        "type": "query",
        "datasource": "${datasource}",
        "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "description": about,
        "allValue": everything,
        "includeAll": True,
        "multi": multi,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "refresh": 2,
        "sort": 2,
    }


def files() -> dict[str, str]:
    """File name -> content."""
    made = {"queue-performance.json": queue_performance(), "worker-metrics.json": worker_metrics()}
    return {name: json.dumps(content, indent=2) + "\n" for name, content in made.items()}


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content)
