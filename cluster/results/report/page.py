"""RecordedRun -> the page: what was worked, how fast, what failed, what the autoscaler did. Pure but for its own files.

The HTML stands in `templates`; what is written into it is made printable and escaped there. Only our own style and
script are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rabbitray.actors.printable import printable
from rabbitray.cluster.results.report.axes import clock, duration, number
from rabbitray.cluster.results.report.charts import (
    HEIGHT,
    WIDTH,
    Chart,
    Curve,
    Mark,
    Span,
    TimeChart,
    histogram,
    short,
    time_chart,
)
from rabbitray.cluster.results.report.recorded_run import RecordedDecision, RecordedRun, Series

TEMPLATES: Final = Path(__file__).parent / "templates"
DECISIONS_SHOWN: Final = 30
TEXT_MOST: Final = 240


def page(run: RecordedRun, *, made_at: datetime) -> str:
    """The whole page as text; `made_at` (aware) stands at its foot."""
    template = templates().get_template("page.html.j2")
    return template.render(
        run=run,
        when=_when(run),
        tiles=_tiles(run),
        over_time=_over_time(run, run.series) if run.series else [],
        speed=_speed(run.series) if run.series else [],
        latency=[
            histogram("Publish to result", run.latency, "blue"),
            histogram("In the handler", run.handler, "blue"),
        ],
        decisions=_decided(run.decisions),
        decisions_shown=DECISIONS_SHOWN,
        made_at=f"{made_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
    )


@cache
def templates() -> Environment:
    """The templates of the report; everything written into them is escaped, a name that nobody gave is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, finalize=_seen,
    )  # fmt: skip
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    made.filters |= {"duration": duration, "number": number, "short": short}
    made.globals |= {
        "write": WRITE,
        "width": WIDTH,
        "height": HEIGHT,
        "style": _own("page.css"),
        "script": _own("page.js"),
    }
    return made


def _seen(value: object) -> object:
    """What is about to be written and escaped: printable where it is text; what is HTML of ours already, as it is."""
    return printable(value) if type(value) is str else value


def _own(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def cut(value: object) -> str:
    """Text of bounded length; a list as its items."""
    if value is None:
        return ""
    words = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return words if len(words) <= TEXT_MOST else f"{words[:TEXT_MOST]}\N{HORIZONTAL ELLIPSIS}"


WRITE: Final[dict[str, Callable[[Any], str]]] = {  # Any: a value of a row
    "text": cut,
    "long": cut,
    "code": cut,
    "count": number,
    "duration": duration,
    "mean": lambda value: "" if value is None else f"{value:.2f}",
    "moment": lambda at: "" if at is None else clock(at),
}
"""How a cell of a table is written."""


def _when(run: RecordedRun) -> str:
    if run.begin is None or run.end is None:
        return "nothing was worked"
    begin = datetime.fromtimestamp(run.begin, UTC)
    return f"{begin:%d %b %Y, %H:%M:%S} to {clock(run.end)} UTC ({duration((run.end - run.begin) * 1000)})"


def _tiles(run: RecordedRun) -> list[tuple[str, str, str]]:
    """Label, figure and note of each tile."""
    summary = run.summary()
    peak = max(run.series.done, default=0) / run.series.width_s if run.series else 0.0
    most = max((decision.had for decision in run.decisions), default=run.workers)
    return [
        ("done", number(run.done), f"{number(run.retried)} of them after a retry"),
        ("dead letters", number(run.dead), _dead_share(run)),
        ("jobs per second", number(_float(summary["throughput_msg_s"])), f"peak {number(round(peak, 1))}"),
        ("publish to result, p50", duration(run.latency.p50_ms), f"p99 {duration(run.latency.p99_ms)}"),
        ("handler, p50", duration(run.handler.p50_ms), f"p99 {duration(run.handler.p99_ms)}"),
        ("workers at most", number(most), f"{number(_float(summary['decisions']))} decisions"),
    ]


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _dead_share(run: RecordedRun) -> str:
    """Each message counts once, as what it came to at last."""
    share = _share(run.dead_messages, run.done + run.dead_messages)
    return share if run.dead_messages == run.dead else f"{number(run.dead_messages)} messages, {share}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%} of all" if whole else "of nothing"


def _span(series: Series) -> Span:
    return Span(start=series.start, length_s=series.span_s, step_s=min(series.width_s, 1.0))


def _buckets(series: Series, values: Sequence[float | None]) -> list[tuple[float, float | None]]:
    return [(series.start + (index + 0.5) * series.width_s, value) for index, value in enumerate(values)]


def _over_time(run: RecordedRun, series: Series) -> list[Chart]:
    """Backlog and workers share their time axis, and the decisions stand in both."""
    decided = [decision for decision in run.decisions if decision.event == "decided"]
    marks = [
        Mark(at=one.at, text=printable(f"{one.had} to {one.wanted}: {one.reason}"))
        for one in decided
        if one.had != one.wanted
    ]
    end = series.start + series.span_s
    seen = [(one.at, one.backlog) for one in run.decisions if one.backlog is not None]
    backlog = Curve(label="in the system", kind="area", tone="blue", points=_buckets(series, series.backlog))
    measured = Curve(label="ready + held, as the autoscaler saw it", kind="dots", tone="orange", points=seen)
    had = [(one.at, float(one.had)) for one in run.decisions]
    wanted = [(one.at, float(one.wanted)) for one in decided]
    workers = [
        Curve(label="workers", kind="step", tone="blue", points=_held(had, end)),
        Curve(label="wanted", kind="dashed", tone="orange", points=_held(wanted, end)),
    ]
    span = _span(series)
    charts = [
        TimeChart(
            title="Backlog", unit="jobs", span=span, curves=[backlog, measured] if seen else [backlog], marks=marks
        )
    ]
    if had:
        charts.append(TimeChart(title="Workers", unit="", span=span, curves=workers, marks=marks))
    return [time_chart(chart) for chart in charts]


def _held(points: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float | None]]:
    """The last value holds to the end."""
    return [*points, *([(end, points[-1][1])] if points else [])]


def _speed(series: Series) -> list[Chart]:
    def rate(values: Sequence[int]) -> list[float | None]:
        return [value / series.width_s for value in values]

    span = _span(series)
    curves = [
        Curve(label="done", kind="area", tone="blue", points=_buckets(series, rate(series.done))),
        Curve(label="published", kind="line", tone="orange", points=_buckets(series, rate(series.published))),
    ]
    if any(series.dead):
        curves.append(
            Curve(
                label="dead letters",
                kind="line",
                tone="red",
                points=_buckets(series, [one or None for one in rate(series.dead)]),
            )
        )
    slowness = [
        Curve(label="p50", kind="line", tone="blue", points=_buckets(series, series.p50_ms), shape="duration"),
        Curve(label="p95", kind="line", tone="orange", points=_buckets(series, series.p95_ms), shape="duration"),
    ]
    return [
        time_chart(TimeChart(title="Jobs per second", unit="per second", span=span, curves=curves)),
        time_chart(TimeChart(title="Publish to result", unit="", span=span, curves=slowness)),
    ]


def _decided(decisions: Sequence[RecordedDecision]) -> list[dict[str, object]]:
    """The rows of the decisions: what the autoscaler did, without its looks at a pool that stayed as it was."""
    return [
        {
            "at": one.at,
            "change": f"{one.had} \N{RIGHTWARDS ARROW} {one.wanted}",
            "event": one.event.replace("_", " "),
            "backlog": one.backlog,
            "reason": one.reason,
        }
        for one in decisions
        if one.event != "still"
    ]
