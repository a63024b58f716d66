"""Run -> the page: what was worked, how fast, what failed, what the autoscaler did. Pure but for its own files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files

from rabbitray.cluster.results.report.charts import Curve, Mark, Span, TimeChart, bars, histogram, time_chart
from rabbitray.cluster.results.report.markup import Html, joined, raw, tag
from rabbitray.cluster.results.report.reading import Decision, Run, Series
from rabbitray.cluster.results.report.scale import clock, duration, number
from rabbitray.cluster.results.report.tables import DEAD_LETTERS, DECISIONS, ERRORS, SLOWEST, TYPES, table

DECISIONS_SHOWN = 30
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
"""The page may run and style itself, and load nothing from anywhere."""


def page(run: Run, *, made_at: datetime) -> str:
    """The whole page as text; `made_at` (aware) stands at its foot."""
    title = f"rabbitray report: {', '.join(run.queues) or run.source}"
    own = files("rabbitray.cluster.results.report")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        raw("style", own.joinpath("page.css").read_text(encoding="utf-8")),
    )
    body = tag("body", _head(run), tag("main", *_sections(run)), _foot(run, made_at), _script())
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _script() -> Html:
    return raw("script", files("rabbitray.cluster.results.report").joinpath("page.js").read_text(encoding="utf-8"))


def _head(run: Run) -> Html:
    names = f"queue {', '.join(run.queues) or 'unknown'}" + (f", pool {', '.join(run.pools)}" if run.pools else "")
    when = "nothing was worked"
    if run.begin is not None and run.end is not None:
        begin = datetime.fromtimestamp(run.begin, UTC)
        when = f"{begin:%d %b %Y, %H:%M:%S} to {clock(run.end)} UTC ({duration((run.end - run.begin) * 1000)})"
    return tag("header", tag("h1", "Run report"), tag("p", names), tag("p", when, class_="soft"))


def _foot(run: Run, made_at: datetime) -> Html:
    words = (
        f"rabbitray report of {run.source}, made {made_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC. All times are UTC."
    )
    return tag("footer", tag("p", words))


def _sections(run: Run) -> list[Html]:
    sections = [_tiles(run)]
    if run.series is not None:
        sections += [_over_time(run, run.series), _speed(run.series)]
    return [*sections, _latency(run), _failures(run), _jobs(run), _decisions(run.decisions)]


def _tiles(run: Run) -> Html:
    summary = run.summary()
    peak = max(run.series.done, default=0) / run.series.width_s if run.series else 0.0
    most = max((decision.had for decision in run.decisions), default=run.workers)
    tiles = [
        ("done", number(run.done), f"{number(run.retried)} of them after a retry"),
        ("dead letters", number(run.dead), _share(run.dead, run.done + run.dead)),
        ("jobs per second", number(_float(summary["throughput_msg_s"])), f"peak {number(round(peak, 1))}"),
        ("publish to result, p50", duration(run.latency.p50_ms), f"p99 {duration(run.latency.p99_ms)}"),
        ("handler, p50", duration(run.handler.p50_ms), f"p99 {duration(run.handler.p99_ms)}"),
        ("workers at most", number(most), f"{number(_float(summary['decisions']))} decisions"),
    ]
    return tag("section", *(_tile(*tile) for tile in tiles), class_="tiles")


def _tile(label: str, value: str, note: str) -> Html:
    return tag("div", tag("span", label), tag("b", value), tag("small", note), class_="tile")


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%} of all" if whole else "of nothing"


def _span(series: Series) -> Span:
    return Span(start=series.start, length_s=series.span_s, step_s=min(series.width_s, 1.0))


def _buckets(series: Series, values: Sequence[float | None]) -> list[tuple[float, float | None]]:
    return [(series.start + (index + 0.5) * series.width_s, value) for index, value in enumerate(values)]


def _over_time(run: Run, series: Series) -> Html:
    """Backlog and workers share their time axis, and the decisions stand in both."""
    decided = [decision for decision in run.decisions if decision.event == "decided"]
    marks = [
        Mark(at=one.at, text=f"{one.had} to {one.wanted}: {one.reason}") for one in decided if one.had != one.wanted
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
    return tag("section", tag("h2", "Backlog and workers"), *map(time_chart, charts))


def _held(points: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float | None]]:
    """The last value holds to the end."""
    return [*points, *([(end, points[-1][1])] if points else [])]


def _speed(series: Series) -> Html:
    def rate(values: Sequence[int]) -> list[float | None]:
        return [value / series.width_s for value in values]

    span, width_s = _span(series), series.width_s
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
    note = f"A point stands for {duration(width_s * 1000)}."
    return tag(
        "section",
        tag("h2", "Throughput"),
        time_chart(TimeChart(title="Jobs per second", unit="per second", span=span, curves=curves)),
        time_chart(TimeChart(title="Publish to result", unit="", span=span, curves=slowness)),
        tag("p", note, class_="soft"),
    )


def _latency(run: Run) -> Html:
    pair = [
        histogram("Publish to result", run.latency, "blue"),
        histogram("In the handler", run.handler, "blue"),
    ]
    return tag("section", tag("h2", "Latency"), tag("div", *pair, class_="pair"))


def _failures(run: Run) -> Html:
    by_class = [(str(row["error_class"]), int(row["jobs"])) for row in run.errors]
    runs = [
        (f"{row['attempts']} {'run' if row['attempts'] == 1 else 'runs'}", int(row["jobs"])) for row in run.attempts
    ]
    classes = table(ERRORS, run.errors, none="No job became a dead letter.")
    letters = table(DEAD_LETTERS, run.dead_letters, none="There are no dead letters.")
    shown = f"the latest {len(run.dead_letters)} of {number(run.dead)}" if run.dead > len(run.dead_letters) else ""
    return joined(
        [
            tag("section", tag("h2", "Errors by class"), bars(by_class, "red") if by_class else None, classes),
            tag("section", tag("h2", "Runs that a done job needed"), bars(runs, "blue")) if runs else None,
            tag("section", tag("h2", "Dead letters ", tag("small", shown)), letters),
        ]
    )


def _jobs(run: Run) -> Html:
    slowest = table(SLOWEST, run.slowest, none="No job was done.")
    types = table(TYPES, run.types, none="No job was done.")
    return joined(
        [tag("section", tag("h2", "Slowest jobs"), slowest), tag("section", tag("h2", "Message types"), types)]
    )


def _decisions(decisions: Sequence[Decision]) -> Html:
    rows = [
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
    first = table(DECISIONS, rows[:DECISIONS_SHOWN], none="The autoscaler decided nothing.")
    rest = rows[DECISIONS_SHOWN:]
    more = tag("details", tag("summary", f"{len(rest)} more"), table(DECISIONS, rest, none="")) if rest else None
    return tag("section", tag("h2", "Decisions of the autoscaler"), first, more)
