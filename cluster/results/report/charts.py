"""Charts: SVG drawn from numbers, with labels as HTML beside it so that they stay readable at any width. Pure.

The drawing stretches with the page (its coordinates are 1000 x 100, y downwards); lines keep their width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rabbitray.cluster.results.report.markup import Html, data, joined, tag
from rabbitray.cluster.results.report.reading import Spread
from rabbitray.cluster.results.report.scale import Tick, ceiling, clock, duration, number, number_ticks, time_ticks

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


def time_chart(chart: TimeChart) -> Html:
    """The chart as a figure: title, legend, plot, and its numbers for the page's script."""
    values = [value for curve in chart.curves for _, value in curve.points]
    top = ceiling(values)
    shape = chart.curves[0].shape
    ticks = [Tick(at=tick.at, label=_value(tick.at * top, shape)) for tick in number_ticks(top)]
    highest = max((value for value in values if value is not None), default=0.0)
    drawing = [_grid(ticks)]
    drawing += [_mark(chart.span.share(mark.at)) for mark in chart.marks]
    drawing += [_curve(curve, chart.span, top) for curve in chart.curves]
    about = f"{chart.title}: at most {_value(highest, shape)}{chart.unit and ' ' + chart.unit}"
    return tag(
        "figure",
        _caption(chart.title, [(curve.label, curve.tone, curve.kind) for curve in chart.curves]),
        tag(
            "div",
            _svg(about, drawing),
            *_ticks(ticks, time_ticks(chart.span.start, chart.span.length_s)),
            class_="plot",
        ),
        data(_numbers(chart)),
        class_="chart time",
    )


def histogram(title: str, spread: Spread, tone: str) -> Html:
    """A distribution of durations on a logarithmic axis, with its percentiles as lines."""
    if not spread.counts:
        return tag("figure", _caption(title, []), tag("p", "Nothing was measured.", class_="none"), class_="chart")
    low, high = (
        min(spread.counts) // 10 * 10,
        max(max(spread.counts) // 10 * 10 + 10, min(spread.counts) // 10 * 10 + 20),
    )
    top = ceiling(list(spread.counts.values()))
    wide = WIDTH / (high - low)
    bars = [
        tag(
            "rect", x=_short((tenth - low) * wide), width=_short(wide * 0.86), y=_short(HEIGHT * (1 - jobs / top)),
            height=_short(HEIGHT * jobs / top), class_=f"bar {tone}",
        )
        for tenth, jobs in sorted(spread.counts.items())
    ]  # fmt: skip
    decades = [
        Tick(at=(tenth - low) / (high - low), label=duration(10 ** (tenth / 10))) for tenth in range(low, high + 1, 10)
    ]
    about = f"{title}: p50 {duration(spread.p50_ms)}, p95 {duration(spread.p95_ms)}, p99 {duration(spread.p99_ms)}"
    ticks = number_ticks(top)
    return tag(
        "figure",
        _caption(title, []),
        tag("p", about.partition(": ")[2], class_="quantiles"),
        tag("div", _svg(about, [_grid(ticks), *bars]), *_ticks(ticks, decades), class_="plot"),
        data(_bar_numbers(spread, low, high)),
        class_="chart bars",
    )


def bars(rows: Sequence[tuple[str, int]], tone: str) -> Html:
    """A bar for each name, longest first as given; the number stands beside it."""
    top = max((count for _, count in rows), default=1)
    return tag(
        "div",
        *(
            tag(
                "div",
                tag("span", name, class_="name"),
                tag("span", tag("i", class_=tone, style=f"width:{max(count / top * 100, 0.5):.1f}%"), class_="track"),
                tag("b", number(count)),
                class_="row",
            )
            for name, count in rows
        ),
        class_="names",
    )


def _svg(about: str, drawing: Sequence[Html]) -> Html:
    box = f"0 0 {WIDTH:g} {HEIGHT:g}"
    return tag("svg", *drawing, viewBox=box, preserveAspectRatio="none", role="img", aria_label=about)


def _caption(title: str, legend: Sequence[tuple[str, str, str]]) -> Html:
    """The title; a legend only where there is more than one thing to tell apart."""
    keys = [tag("span", label, class_=f"key {tone} {kind}") for label, tone, kind in legend]
    return tag("figcaption", tag("strong", title), *(keys if len(keys) > 1 else []))


def _ticks(vertical: Sequence[Tick], horizontal: Sequence[Tick]) -> list[Html]:
    labels = [tag("span", tick.label, class_="y", style=f"top:{(1 - tick.at) * 100:.2f}%") for tick in vertical]
    for tick in horizontal:
        edge = " first" if tick.at < 0.06 else " last" if tick.at > 0.94 else ""
        labels.append(tag("span", tick.label, class_=f"x{edge}", style=f"left:{tick.at * 100:.2f}%"))
    return labels


def _grid(ticks: Sequence[Tick]) -> Html:
    lines = (f"M0 {_short(HEIGHT * (1 - tick.at))}H{WIDTH:g}" for tick in ticks)
    return tag("path", d="".join(lines), class_="grid")


def _mark(share: float) -> Html:
    return tag("path", d=f"M{_short(WIDTH * share)} 0V{HEIGHT:g}", class_="mark")


def _curve(curve: Curve, span: Span, top: float) -> Html:
    """Runs of points without a gap, each a path of its own."""
    runs: list[list[tuple[float, float]]] = [[]]
    for at, value in curve.points:
        if value is None:
            runs.append([])
        else:
            runs[-1].append((WIDTH * span.share(at), HEIGHT * (1 - value / top)))
    path = "".join(_path(run, curve.kind) for run in runs if run)
    line = tag("path", d=path, class_=f"line {curve.tone} {curve.kind}")
    if curve.kind != "area":
        return line
    filled = "".join(_filled(run) for run in runs if run)
    return joined([tag("path", d=filled, class_=f"fill {curve.tone}"), line])


def _path(run: Sequence[tuple[float, float]], kind: Kind) -> str:
    """A lone point is a short stroke, or nobody would see it."""
    if kind == "dots":  # strokes of no length, with round ends
        return "".join(f"M{_short(x)} {_short(y)}h0" for x, y in run)
    if len(run) == 1:
        return f"M{_short(run[0][0] - 1)} {_short(run[0][1])}h2"
    parts = [f"M{_short(run[0][0])} {_short(run[0][1])}"]
    for x, y in run[1:]:
        parts.append(f"H{_short(x)}V{_short(y)}" if kind in ("step", "dashed") else f"L{_short(x)} {_short(y)}")
    return "".join(parts)


def _filled(run: Sequence[tuple[float, float]]) -> str:
    return f"{_path(run, 'line')}L{_short(run[-1][0])} {HEIGHT:g}L{_short(run[0][0])} {HEIGHT:g}Z"


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


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
