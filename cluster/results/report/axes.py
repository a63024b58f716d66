"""Axes: where the ticks stand, and how numbers, durations and times are written. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

TIME_STEPS_S: Final[Sequence[float]] = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600),
    *(7_200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000, 31_536_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A line of the grid: its share of the axis (0..1) and its label."""

    at: float
    label: str


def step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 x 10^n that cuts `span` into at most `most` pieces."""
    if span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(power * factor for factor in (1, 2, 5, 10, 20) if span / (power * factor) <= most)


def ceiling(values: Sequence[float | None], *, least: float = 1.0, most_ticks: int = 4) -> float:
    """The end of an axis from 0 that holds all values, at a tick."""
    highest = max([least, *(value for value in values if value is not None)])
    one = step(highest, most_ticks)
    return math.ceil(highest / one - 1e-9) * one


def number_ticks(top: float, most: int = 4) -> list[Tick]:
    """Ticks from 0 to `top`."""
    one = step(top, most)
    return [Tick(at=index * one / top, label=number(index * one)) for index in range(round(top / one) + 1)]


def time_step(span_s: float, most: int) -> float:
    """The smallest readable step in seconds that cuts `span_s` into at most `most` pieces."""
    return next((one for one in TIME_STEPS_S if span_s / one <= most), TIME_STEPS_S[-1])


def time_ticks(start: float, span_s: float, most: int = 5) -> list[Tick]:
    """Ticks at round times (UTC) of an axis that begins at `start` (Unix seconds)."""
    one = time_step(span_s, most)
    first = math.ceil(start / one)
    places = [(first + index) * one for index in range(most + 2)]
    return [Tick(at=(at - start) / span_s, label=clock(at, one)) for at in places if at <= start + span_s]


def clock(at: float, step_s: float = 1.0) -> str:
    """A time (UTC) as exact as a step of `step_s` needs."""
    moment = datetime.fromtimestamp(round(at, 3), UTC)
    if step_s >= 86_400:
        return moment.strftime("%d %b")
    if step_s >= 60:
        return moment.strftime("%H:%M")
    return moment.strftime("%H:%M:%S") + (f".{moment.microsecond // 100_000}" if step_s < 1 else "")


def number(value: float | None) -> str:
    """A count or rate for people: 12,345, 3.5, 0.02; a dash for None."""
    if value is None:
        return "\u2013"
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.2g}"


def duration(milliseconds: float | None) -> str:
    """A duration for people: 0.4 ms, 250 ms, 3.2 s, 5 min, 2.5 h; a dash for None."""
    if milliseconds is None:
        return "\u2013"
    for unit, size in (("d", 86_400_000.0), ("h", 3_600_000.0), ("min", 60_000.0), ("s", 1_000.0)):
        if milliseconds >= size * (2 if unit == "min" else 1):  # 90 s, not 1.5 min
            return f"{number(round(milliseconds / size, 1))} {unit}"
    return f"{number(round(milliseconds, 1))} ms"
