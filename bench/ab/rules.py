"""What a comparison rests on: ratios of pairs, the median's interval, when there are rounds enough, the verdict. Pure.

A ratio is above 1 where HEAD is better, whatever the figure. A round is one measurement of each side. The interval of
the median is the distribution-free one: two order statistics of the ratios between which the true median lies with a
probability of at least 95 %, by the binomial distribution, whatever the ratios are distributed like. There is none for
fewer than 6 rounds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

CONFIDENCE: Final = 0.95
LEAST_ROUNDS: Final = 10
MOST_S: Final = 1_800.0

Outcome = Literal["not worse", "worse", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The median of `rounds` ratios and its 95 % interval, from 0 to infinity where the rounds are too few."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is said of one figure; `text` is for people."""

    outcome: Outcome
    text: str


def ratio(base: float, head: float, *, higher_is_better: bool) -> float:
    """How much better HEAD is, 1: equal. Both figures are above 0."""
    return head / base if higher_is_better else base / head


def estimate(ratios: Sequence[float]) -> Estimate:
    """Of at least one ratio."""
    ordered, rank = sorted(ratios), rank_of(len(ratios))
    return Estimate(
        median=statistics.median(ordered),
        low=ordered[rank - 1] if rank else 0.0,
        high=ordered[-rank] if rank else math.inf,
        rounds=len(ordered),
    )


def rank_of(count: int) -> int:
    """The largest k for which the k-th least and the k-th largest of `count` values are the interval; 0: none is."""
    rank, outside = 0, 0.0
    while 2 * (rank + 1) <= count:
        outside += 2 * math.comb(count, rank) / 2**count
        if outside > 1 - CONFIDENCE:
            break
        rank += 1
    return rank


def enough(main: Estimate, *, spent_s: float, limit: float, most_rounds: int | None = None) -> str:
    """Why there are rounds enough, empty while there are not. `limit`: a share, 0.03 for 3 %."""
    if most_rounds is not None and main.rounds >= most_rounds:
        return f"{main.rounds} rounds were asked for"
    if main.rounds >= LEAST_ROUNDS and main.half_width <= limit:
        return f"half the interval is within {_percent(limit)}"
    if spent_s * (main.rounds + 1) / main.rounds > MOST_S:
        return f"another round would not end within {MOST_S / 60:g} minutes"
    return ""


def verdict(figure: Estimate, cpu: Estimate | None, limit: float) -> Verdict:
    """The figure itself decides where it is known well enough, else CPU per message by the same rule."""
    if figure.half_width <= limit:
        return Verdict(outcome=_outcome(figure, limit), text=_told(figure, limit))
    if cpu is None or cpu.half_width > limit:
        return Verdict(outcome="undecided", text="too wide, and so is CPU: undecided")
    return Verdict(outcome=_outcome(cpu, limit), text=f"too wide: decided by CPU: {_told(cpu, limit)}")


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """0 where nothing is worse, 1 where something is, or cannot be told."""
    return int(any(one.outcome != "not worse" for one in verdicts))


def _outcome(known: Estimate, limit: float) -> Outcome:
    return "not worse" if known.median >= 1 - limit else "worse"


def _told(known: Estimate, limit: float) -> str:
    if _outcome(known, limit) == "not worse":
        return f"not worse than {_percent(limit)}"
    return f"worse, by {_percent(1 - known.median)}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
