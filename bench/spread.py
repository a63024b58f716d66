"""What the benches say about repeated measurements: the median and how far the rounds lie apart."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence


def medians(rounds: Mapping[str, Sequence[float]], digits: int = 0) -> dict[str, float]:
    """The median of each series."""
    return {name: rounded(statistics.median(values), digits) for name, values in rounds.items()}


def spreads(rounds: Mapping[str, Sequence[float]], digits: int = 0) -> dict[str, list[float]]:
    """The least and the largest value of each series."""
    return {name: [rounded(min(values), digits), rounded(max(values), digits)] for name, values in rounds.items()}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Pair by pair, so that a slow moment of the machine hits both sides."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def rounded(value: float, digits: int) -> float:
    """A figure without decimals is an int."""
    return round(value, digits) if digits else round(value)
