"""Loads: when messages arrive, and where the load itself turns. Pure; random ones are seeded."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from math import cos, exp, pi
from random import Random
from typing import Final

from actors.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Messages for each second, and how often the noiseless curve changes its direction."""

    name: str
    counts: tuple[int, ...]
    changes: int

    @property
    def duration_s(self) -> int:
        """Seconds from the first count to the end of the last."""
        return len(self.counts)

    def arrivals(self) -> list[float]:
        """The arrival times in seconds, spread evenly within each second."""
        return [s + (i + 0.5) / n for s, n in enumerate(self.counts) for i in range(n)]


def turns(values: Iterable[float]) -> int:
    """How often a sequence changes from rising to falling or back; flat parts do not count."""
    count, direction, last = 0, 0, None
    for value in values:
        if last is not None and value != last:
            now = 1 if value > last else -1
            count += direction not in (0, now)
            direction = now
        last = value
    return count


def of_curve(name: str, curve: list[float], *, seed: int | None = None) -> Load:
    """A load of the rates of `curve` (messages per second, one for each second), Poisson with a `seed`."""
    counts = _evenly(curve) if seed is None else _poisson(curve, Random(seed))
    return Load(name=name, counts=tuple(counts), changes=turns(round(c, 6) for c in curve))


def step(low: float = 20, high: float = 100, duration_s: int = 900) -> Load:
    """Low for a fifth of the time, then high to the end."""
    return of_curve("step", [low if t < duration_s / 5 else high for t in range(duration_s)])


def ramp(low: float = 20, high: float = 100, duration_s: int = 900) -> Load:
    """Low, up in a straight line for a third of the time, high, and down again."""
    third = duration_s / 3

    def at(t: float) -> float:
        return low + (high - low) * max(0.0, min(1.0, t / third, (duration_s - t) / third))

    return of_curve("ramp", [at(t) for t in range(duration_s)])


def spike(low: float = 20, high: float = 200, duration_s: int = 900) -> Load:
    """Low, and in the middle high for a fortieth of the time."""
    start, end = duration_s // 2, duration_s // 2 + max(1, duration_s // 40)
    return of_curve("spike", [high if start <= t < end else low for t in range(duration_s)])


def square(low: float = 20, high: float = 100, duration_s: int = 1800, cycles: int = 3) -> Load:
    """`cycles` times low and high, half of the time each, and low at the end."""
    half = duration_s / (2 * cycles + 1)
    return of_curve("square", [high if int(t / half) % 2 else low for t in range(duration_s)])


def sine(low: float = 20, high: float = 100, duration_s: int = 1800, cycles: int = 2) -> Load:
    """`cycles` smooth waves that start and end low."""
    wave = [(1 - cos(2 * pi * cycles * t / duration_s)) / 2 for t in range(duration_s)]
    return of_curve("sine", [low + (high - low) * w for w in wave])


def poisson(low: float = 20, high: float = 100, duration_s: int = 3600, seed: int = 1) -> Load:
    """A noisy day, compressed: a smaller peak in the morning, a larger one in the evening, Poisson noise."""

    def at(t: float) -> float:
        x = t / duration_s
        return low + (high - low) * (0.7 * exp(-(((x - 0.35) / 0.09) ** 2)) + exp(-(((x - 0.75) / 0.1) ** 2)))

    return of_curve("poisson", [at(t) for t in range(duration_s)], seed=seed)


SHAPES: Final[Mapping[str, Callable[..., Load]]] = {
    "step": step,
    "ramp": ramp,
    "spike": spike,
    "square": square,
    "sine": sine,
    "poisson": poisson,
}


def from_csv(text: str, name: str = "csv") -> Load:
    """A load from CSV with the columns `second` and `messages`; seconds that are left out have none.

    Raises ConfigurationError with the line where a value is no number at or above 0.
    """
    rows = csv.DictReader(StringIO(text))
    if not {"second", "messages"} <= set(rows.fieldnames or ()):
        raise ConfigurationError("the load needs a header line with the columns second,messages")
    found: dict[int, float] = {}
    for row in rows:
        try:
            second, messages = int(float(row["second"])), float(row["messages"])
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"line {rows.line_num} of the load: {error}") from error
        if second < 0 or messages < 0:
            raise ConfigurationError(f"line {rows.line_num} of the load: values below 0")
        found[second] = found.get(second, 0.0) + messages
    if not found:
        raise ConfigurationError("the load has no lines below its header")
    return of_curve(name, [found.get(s, 0.0) for s in range(max(found) + 1)])


def recorded(points: Iterable[tuple[float, float]], name: str = "recorded") -> Load:
    """A load from (time in seconds, arrivals per second), e.g. of a run's decisions; each rate holds on."""
    ordered = sorted(points)
    if len(ordered) < 2:
        raise ConfigurationError("the recorded run has fewer than two decisions with an arrival rate")
    start, curve, at = ordered[0][0], [], 0
    for second in range(int(ordered[-1][0] - start) + 1):
        while at + 1 < len(ordered) and ordered[at + 1][0] - start <= second:
            at += 1
        curve.append(max(0.0, ordered[at][1]))
    return of_curve(name, curve)


def _evenly(curve: list[float]) -> list[int]:
    counts, owed = [], 0.0
    for rate in curve:
        owed += rate
        counts.append(int(owed))
        owed -= int(owed)
    return counts


def _poisson(curve: list[float], random: Random) -> list[int]:
    counts = []
    for rate in curve:
        n, at = 0, random.expovariate(1.0)
        while at < rate:
            n, at = n + 1, at + random.expovariate(1.0)
        counts.append(n)
    return counts
