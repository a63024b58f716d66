"""Charts as numbers: the paths and bars of an SVG drawing, its ticks, and the texts beside it. Pure.

`templates/charts.html.j2` writes them as HTML; code makes what a template cannot, the outlines of the curves. The
drawing stretches with the page (its coordinates are 1000 x 100, y downwards); lines keep their width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rabbitray.cluster.results.report.axes import Tick, ceiling, clock, duration, number, number_ticks, time_ticks
from rabbitray.cluster.results.report.recorded_run import Spread

WIDTH, HEIGHT = 1000.0, 100.0
Kind = Literal["area", "line", "step", "dashed", "dots"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One series: `points` are (Unix seconds, value), ascending; None is a gap. `tone`: class of its colour."""

    label: str
    kind: Kind
    tone: str
    points: Sequence[tuple[float, float | None]]
    shape: Literal["number", "duration"] = "number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The time that a chart shows, in Unix seconds, and how exact its times are."""

    start: float
    length_s: float
    step_s: float

    def share(self, at: float) -> float:
        """Where a moment stands, 0 to 1."""
        return min(max((at - self.start) / self.length_s, 0.0), 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened at a moment: a thin line, told when it is pointed at."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeChart:
    """Curves over time on one axis from 0."""

    title: str
    unit: str
    span: Span
    curves: Sequence[Curve]
    marks: Sequence[Mark] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A line or an area of the drawing: its outline (SVG's `d`) and its classes."""

    d: str
    look: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartBar:
    """A rectangle of the drawing. `tone`: class of its colour."""

    x: float
    y: float
    width: float
    height: float
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An entry of the legend; it is shown where there is more than one thing to tell apart."""

    label: str
    look: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A figure as the template writes it. `numbers`: for the page's script, as JSON; empty: nothing was measured.

    `about`: what somebody hears who does not see it; `vertical` and `horizontal`: the ticks of its axes.
    """

    title: str
    kind: Literal["time", "bars"]
    about: str = ""
    note: str = ""
    keys: Sequence[Key] = ()
    paths: Sequence[Path] = ()
    bars: Sequence[ChartBar] = ()
    vertical: Sequence[Tick] = ()
    horizontal: Sequence[Tick] = ()
    numbers: Mapping[str, object] = field(default_factory=dict)


def time_chart(chart: TimeChart) -> Chart:
    """Curves with their marks and legend."""
    values = [value for curve in chart.curves for _, value in curve.points]
    top = ceiling(values)
    shape = chart.curves[0].shape
    ticks = [Tick(at=tick.at, label=_value(tick.at * top, shape)) for tick in number_ticks(top)]
    highest = max((value for value in values if value is not None), default=0.0)
    paths = [_grid(ticks)]
    paths += [_mark(chart.span.share(mark.at)) for mark in chart.marks]
    paths += [path for curve in chart.curves for path in _curve(curve, chart.span, top)]
    return Chart(
        title=chart.title,
        kind="time",
        about=f"{chart.title}: at most {_value(highest, shape)}{chart.unit and ' ' + chart.unit}",
        keys=[Key(label=curve.label, look=f"{curve.tone} {curve.kind}") for curve in chart.curves],
        paths=paths,
        vertical=ticks,
        horizontal=time_ticks(chart.span.start, chart.span.length_s),
        numbers=_numbers(chart),
    )


def histogram(title: str, spread: Spread, tone: str) -> Chart:
    """A distribution of durations on a logarithmic axis, its percentiles in words."""
    if not spread.counts:
        return Chart(title=title, kind="bars")
    low = min(spread.counts) // 10 * 10
    high = max(max(spread.counts) // 10 * 10 + 10, low + 20)
    top = ceiling(list(spread.counts.values()))
    ticks = number_ticks(top)
    note = f"p50 {duration(spread.p50_ms)}, p95 {duration(spread.p95_ms)}, p99 {duration(spread.p99_ms)}"
    return Chart(
        title=title,
        kind="bars",
        about=f"{title}: {note}",
        note=note,
        paths=[_grid(ticks)],
        bars=[
            _bar(tenth - low, jobs / top, WIDTH / (high - low), tone) for tenth, jobs in sorted(spread.counts.items())
        ],
        vertical=ticks,
        horizontal=[
            Tick(at=(tenth - low) / (high - low), label=duration(10 ** (tenth / 10)))
            for tenth in range(low, high + 1, 10)
        ],
        numbers=_bar_numbers(spread, low, high),
    )


def _bar(place: int, share: float, wide: float, tone: str) -> ChartBar:
    return ChartBar(x=place * wide, y=HEIGHT * (1 - share), width=wide * 0.86, height=HEIGHT * share, tone=tone)


def _grid(ticks: Sequence[Tick]) -> Path:
    lines = (f"M0 {short(HEIGHT * (1 - tick.at))}H{WIDTH:g}" for tick in ticks)
    return Path(d="".join(lines), look="grid")


def _mark(share: float) -> Path:
    return Path(d=f"M{short(WIDTH * share)} 0V{HEIGHT:g}", look="mark")


def _curve(curve: Curve, span: Span, top: float) -> list[Path]:
    """Runs of points without a gap, each a path of its own."""
    runs: list[list[tuple[float, float]]] = [[]]
    for at, value in curve.points:
        if value is None:
            runs.append([])
        else:
            runs[-1].append((WIDTH * span.share(at), HEIGHT * (1 - value / top)))
    path = "".join(_path(run, curve.kind) for run in runs if run)
    line = Path(d=path, look=f"line {curve.tone} {curve.kind}")
    if curve.kind != "area":
        return [line]
    filled = "".join(_filled(run) for run in runs if run)
    return [Path(d=filled, look=f"fill {curve.tone}"), line]


def _path(run: Sequence[tuple[float, float]], kind: Kind) -> str:
    """A lone point is a short stroke, or nobody would see it."""
    if kind == "dots":  # strokes of no length, with round ends
        return "".join(f"M{short(x)} {short(y)}h0" for x, y in run)
    if len(run) == 1:
        return f"M{short(run[0][0] - 1)} {short(run[0][1])}h2"
    parts = [f"M{short(run[0][0])} {short(run[0][1])}"]
    for x, y in run[1:]:
        parts.append(f"H{short(x)}V{short(y)}" if kind in ("step", "dashed") else f"L{short(x)} {short(y)}")
    return "".join(parts)


def _filled(run: Sequence[tuple[float, float]]) -> str:
    return f"{_path(run, 'line')}L{short(run[-1][0])} {HEIGHT:g}L{short(run[0][0])} {HEIGHT:g}Z"


def _numbers(chart: TimeChart) -> Mapping[str, object]:
    """For the page's script: where each point stands, and every text that it shows."""
    span = chart.span
    return {
        "curves": [
            {
                "label": curve.label,
                "tone": curve.tone,
                "held": curve.kind in ("step", "dashed"),
                "points": [
                    [round(span.share(at), 4), _value(value, curve.shape)]
                    for at, value in curve.points
                    if value is not None
                ],
            }
            for curve in chart.curves
        ],
        "times": [
            [round(index / 200, 4), clock(span.start + span.length_s * index / 200, span.step_s)]
            for index in range(201)
        ],
        "marks": [[round(span.share(mark.at), 4), mark.text] for mark in chart.marks],
        "unit": chart.unit,
    }


def _bar_numbers(spread: Spread, low: int, high: int) -> Mapping[str, object]:
    return {
        "bars": [
            [
                round((tenth - low) / (high - low), 4),
                round((tenth + 1 - low) / (high - low), 4),
                f"{duration(10 ** (tenth / 10))} to {duration(10 ** ((tenth + 1) / 10))}",
                number(jobs),
            ]
            for tenth, jobs in sorted(spread.counts.items())
        ]
    }


def _value(value: float | None, shape: str) -> str:
    return duration(value) if shape == "duration" else number(None if value is None else round(value, 1))


def short(value: float) -> str:
    """A coordinate, as exact as a drawing needs."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
