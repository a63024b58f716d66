"""Loads: when messages arrive, and where the load itself turns. Pure; random ones are seeded."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from math import cos, exp, isfinite, pi
from random import Random
from typing import Final

from rabbitray.actors.errors import ConfigurationError

MOST_S: Final = 7 * 86_400
"""The longest load: a week takes the simulator about a minute."""

MOST_MESSAGES: Final = 10_000_000
TURN_S: Final = 30
"""A recorded load has no curve without noise: its turns are those of its sums over this time."""


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
    """A load of the rates of `curve` (messages per second, one for each second), Poisson with a `seed`.

    Raises ConfigurationError where it is longer or larger than a replay can hold, or a rate is no number from 0 on.
    """
    if not all(isfinite(rate) and rate >= 0 for rate in curve):
        raise ConfigurationError(f"load {name}: a rate is not a number at or above 0")
    _bounded(name, len(curve), sum(curve))
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

    Raises ConfigurationError with the line where a value is no number at or above 0, or the load is too large.
    """
    found: dict[int, float] = {}
    for line, second, messages in _csv_rows(text):
        if not (isfinite(second) and isfinite(messages) and second >= 0 and messages >= 0):
            raise ConfigurationError(f"line {line} of the load: values must be numbers at or above 0")
        if second >= MOST_S:
            raise ConfigurationError(
                f"line {line} of the load: second {second:g} is beyond the week that fits a replay"
            )
        found[int(second)] = found.get(int(second), 0.0) + messages
    if not found:
        raise ConfigurationError("the load has no lines below its header")
    return of_curve(name, [found.get(s, 0.0) for s in range(max(found) + 1)])


def recorded(seconds: Iterable[tuple[int, int]], name: str = "recorded") -> Load:
    """A load of (second, messages that arrived in it) as they were counted; seconds that are left out have none.

    It begins with the first second and ends with the last. Raises ConfigurationError where it is empty or too large.
    """
    found = dict(seconds)
    if not found:
        raise ConfigurationError("nothing is recorded: the results have no row and no dead letter of a run")
    first, last = min(found), max(found)
    _bounded(name, last - first + 1, sum(found.values()))
    counts = tuple(found.get(second, 0) for second in range(first, last + 1))
    return Load(
        name=name, counts=counts, changes=turns(sum(counts[t : t + TURN_S]) for t in range(0, len(counts), TURN_S))
    )


def not_empty(load: Load) -> Load:
    """The load; ConfigurationError where no message arrives in it."""
    if not any(load.counts):
        raise ConfigurationError(f"load {load.name} has no messages: give it a higher rate or a longer time")
    return load


def _csv_rows(text: str) -> Iterator[tuple[int, float, float]]:
    """Line number, second and messages of each row."""
    rows = csv.DictReader(StringIO(text))
    try:
        if not {"second", "messages"} <= set(rows.fieldnames or ()):
            raise ConfigurationError("the load needs a header line with the columns second,messages")
        for row in rows:
            yield rows.line_num, float(row["second"]), float(row["messages"])
    except (TypeError, ValueError, csv.Error) as error:
        raise ConfigurationError(f"line {rows.line_num} of the load: {error}") from error


def _bounded(name: str, seconds: int, messages: float) -> None:
    if not 1 <= seconds <= MOST_S:
        raise ConfigurationError(
            f"load {name}: {seconds:,} s long, a replay takes from 1 s to a week: take a part of it"
        )
    if messages > MOST_MESSAGES:
        raise ConfigurationError(
            f"load {name}: {messages:,.0f} messages, a replay takes {MOST_MESSAGES:,} at most: a shorter time or less"
        )


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
