"""What one round of each bench measures, and which way each figure is better. Pure.

A bench without a plan of its own is run as `python -m bench NAME --quick --json`: its figures are then all numbers
whose name has a unit (`msg_s`, `_s`, `_ms`, `_us`, ...) or says `ratio`, and CPU is counted for the whole run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

RATES: Final = ("msg_s", "records_s", "rows_s", "mb_s")
LOWER_UNITS: Final = ("s", "ms", "us", "ns", "mb")
BASELINES: Final = ("raw", "bare", "by_hand", "spread")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of a round. `window`: the stretch of the round whose CPU goes with it. `judged`: not if too coarse."""

    name: str
    window: str
    higher_is_better: bool = True
    judged: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The round of `rounds.py` with the bench's name; the first figure is the main one, which says when to stop."""

    broker: bool
    figures: tuple[Figure, ...]


def _lower(window: str, *names: str) -> tuple[Figure, ...]:
    return tuple(Figure(name=name, window=window, higher_is_better=False) for name in names)


PLANS: Final[Mapping[str, Plan]] = {
    "stations": Plan(
        broker=False,
        figures=_lower("stations", "total_us", "dequeue_us", "decode_and_validate_us", "ack_us", "metrics_us"),
    ),
    "throughput": Plan(
        broker=True,
        figures=(
            Figure(name="msg_s", window="empty"),
            Figure(name="10_KiB_msg_s", window="10 KiB"),
            Figure(name="100_KiB_msg_s", window="100 KiB"),
            Figure(name="packed_records_s", window="packed"),
        ),
    ),
    "latency": Plan(
        broker=True,
        figures=(
            *_lower("at 100/s", "commit_p50_ms", "commit_p99_ms"),
            Figure(name="ack_p50_ms", window="at 100/s", higher_is_better=False, judged=False),
            Figure(name="ack_p99_ms", window="at 100/s", higher_is_better=False, judged=False),
        ),
    ),
    "batch": Plan(
        broker=True,
        figures=(
            *_lower("1 in a burst", "of_1_commit_p50_ms"),
            *_lower("100 in a burst", "of_100_commit_p50_ms"),
        ),
    ),
    "publish": Plan(
        broker=True,
        figures=(
            Figure(name="msg_s", window="pipelined"),
            Figure(name="packed_records_s", window="packed"),
            Figure(name="one_at_a_time_ms", window="one at a time", higher_is_better=False),
        ),
    ),
    "worker": Plan(broker=True, figures=(Figure(name="msg_s", window="worker"),)),
}

WHOLE_RUN: Final = "whole run"


def figures_of(result: object, lower: Collection[str]) -> dict[str, float]:
    """The numbers above 0 of a bench's JSON that can be compared, by dotted path; lists are left out."""
    return {path: value for path, value in _numbers(result) if value > 0 and higher_is_better(path, lower) is not None}


def plan_of(figures: Collection[str], lower: Collection[str]) -> Plan:
    """A plan for the figures of a bench that has none."""
    found = ((path, higher_is_better(path, lower)) for path in figures)
    return Plan(
        broker=True,
        figures=tuple(
            Figure(name=path, window=WHOLE_RUN, higher_is_better=higher) for path, higher in found if higher is not None
        ),
    )


def higher_is_better(path: str, lower: Collection[str]) -> bool | None:
    """By the last step of the path that has a unit; None: no figure of ours. `lower`: ratios better when lower."""
    steps = path.split(".")
    if any(step.startswith(BASELINES) for step in steps):
        return None
    for step in reversed(steps):
        if step in RATES or step.endswith(tuple(f"_{rate}" for rate in RATES)):
            return True
        words = step.split("_")
        if "ratio" in words:
            return not f".{path}".endswith(tuple(f".{one}" for one in lower))
        if len(words) > 1 and words[-1] in LOWER_UNITS:
            return False
    return None


def _numbers(result: object, path: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(result, Mapping):
        for key, value in result.items():
            yield from _numbers(value, f"{path}.{key}" if path else str(key))
    elif isinstance(result, int | float) and not isinstance(result, bool):
        yield path, float(result)
