"""What was found, as a value, as Markdown and as JSON. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench.ab.measure import Measured, counted_us
from bench.ab.plans import Figure
from bench.ab.rules import Estimate, Verdict, estimate, ratio, verdict

Pair = tuple[Measured, Measured]
"""One round: BASE, HEAD."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of both sides; medians of the rounds. `verdict` is None for one that is too coarse to judge."""

    figure: str
    base: float
    head: float
    ratio: Estimate
    cpu_ratio: Estimate | None
    verdict: Verdict | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What stands around the figures. `cpu_per`: what CPU is told for. `load`: load average before and after."""

    bench: str
    base: str
    head: str
    cpu_per: Literal["message", "run"]
    limit: float
    rounds: int
    seconds: float
    stopped: str
    load: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """µs of CPU per message in one role, medians of the rounds."""

    role: str
    base: float
    head: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSum:
    """µs of CPU per message in one window, in all processes that the rule counts; medians of the rounds."""

    window: str
    base: float
    head: float
    ratio: Estimate | None


def comparable(figures: Sequence[Figure], pairs: Sequence[Pair]) -> list[Figure]:
    """Those that both sides gave in every round, above 0."""
    measured = [side.result for pair in pairs for side in pair]
    return [one for one in figures if all(_positive(result.get(one.name)) for result in measured)]


def ratios(figure: Figure, pairs: Sequence[Pair]) -> list[float]:
    """Round by round."""
    name, higher = figure.name, figure.higher_is_better
    return [ratio(base.result[name], head.result[name], higher_is_better=higher) for base, head in pairs]


def row(figure: Figure, pairs: Sequence[Pair], limit: float) -> Row:
    """One figure with what is said of it."""
    known, cpu = estimate(ratios(figure, pairs)), _cpu_estimate(figure.window, pairs)
    base, head = (statistics.median(pair[side].result[figure.name] for pair in pairs) for side in (0, 1))
    judged = verdict(known, cpu, limit) if figure.judged else None
    return Row(figure=figure.name, base=base, head=head, ratio=known, cpu_ratio=cpu, verdict=judged)


def cpu_rows(window: str, pairs: Sequence[Pair]) -> list[Cpu]:
    """Each role in one window."""
    roles = sorted({role for pair in pairs for side in pair for role in side.cpu_us[window]})
    return [Cpu(role=role, **_medians(window, role, pairs)) for role in roles]


def cpu_sums(figures: Sequence[Figure], pairs: Sequence[Pair]) -> list[CpuSum]:
    """What decides a figure that is not known well enough itself: one for each window, the main one first."""
    return [_cpu_sum(window, pairs) for window in dict.fromkeys(one.window for one in figures)]


def _cpu_sum(window: str, pairs: Sequence[Pair]) -> CpuSum:
    base, head = (statistics.median(counted_us(pair[side].cpu_us[window]) for pair in pairs) for side in (0, 1))
    return CpuSum(window=window, base=base, head=head, ratio=_cpu_estimate(window, pairs))


def _medians(window: str, role: str, pairs: Sequence[Pair]) -> dict[str, float]:
    sides = (("base", 0), ("head", 1))
    return {name: statistics.median(pair[side].cpu_us[window].get(role, 0.0) for pair in pairs) for name, side in sides}


def _cpu_estimate(window: str, pairs: Sequence[Pair]) -> Estimate | None:
    sums = [(counted_us(base.cpu_us[window]), counted_us(head.cpu_us[window])) for base, head in pairs]
    if not all(base > 0 and head > 0 for base, head in sums):
        return None
    return estimate([ratio(base, head, higher_is_better=False) for base, head in sums])


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def markdown(facts: Facts, rows: Sequence[Row], cpu: Sequence[Cpu], sums: Sequence[CpuSum]) -> str:
    """For people. Ratios are above 1 where HEAD is better; `cpu` is that of the first of `sums`."""
    lines = [
        f"## bench-ab {facts.bench}: {facts.base[:12]} (base), {facts.head[:12]} (head)",
        "",
        "| figure | base, median | head, median | ratio, median | 95 % interval | verdict |",
        "|---|---:|---:|---:|---:|---|",
        *(_line(one) for one in rows),
        "",
        f"| CPU, µs per {facts.cpu_per} | base | head | ratio | 95 % interval |",
        "|---|---:|---:|---:|---:|",
        *(f"| {one.role} | {short(one.base)} | {short(one.head)} | | |" for one in cpu),
        *(_sum_line(one) for one in sums),
        "",
        f"Rounds in turn: {facts.rounds}, {facts.seconds:.0f} s; {facts.stopped}. Load average before and after: "
        f"{facts.load[0]}, {facts.load[1]}. Ratios are above 1 where head is better; the interval of the median is "
        f"that of its order statistics. CPU by role is that of the window {sums[0].window!r}.",
    ]
    return "\n".join(lines)


def _line(one: Row) -> str:
    said = one.verdict.text if one.verdict else "too coarse to judge: steps of 5 %"
    figures = f"{short(one.base)} | {short(one.head)} | {one.ratio.median:.3f} | {_ends(one.ratio)}"
    return f"| {one.figure} | {figures} | {said} |"


def _sum_line(one: CpuSum) -> str:
    told = f"{one.ratio.median:.3f} | {_ends(one.ratio)}" if one.ratio else "| "
    return f"| sum without ray and broker, {one.window} | {short(one.base)} | {short(one.head)} | {told} |"


def _ends(one: Estimate) -> str:
    return "too few rounds" if math.isinf(one.high) else f"{one.low:.3f} to {one.high:.3f}"


def short(value: float) -> str:
    """Four digits are more than a median is known to."""
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.4g}"


def as_json(  # Any: JSON values
    facts: Facts, rows: Sequence[Row], cpu: Sequence[Cpu], sums: Sequence[CpuSum], pairs: Sequence[Pair]
) -> dict[str, Any]:
    """For machines, with every round; an end of an interval that is not known is None."""
    return {
        **asdict(facts),
        "figures": {one.figure: _row_json(one) for one in rows},
        "cpu_us": {one.role: {"base": one.base, "head": one.head} for one in cpu},
        "cpu_sum_us": {one.window: _sum_json(one) for one in sums},
        "each_round": [{"base": asdict(base), "head": asdict(head)} for base, head in pairs],
    }


def _row_json(one: Row) -> dict[str, Any]:  # Any: JSON values
    return {
        "base": one.base,
        "head": one.head,
        "ratio": _estimate_json(one.ratio),
        "cpu_ratio": _estimate_json(one.cpu_ratio) if one.cpu_ratio else None,
        "outcome": one.verdict.outcome if one.verdict else None,
        "verdict": one.verdict.text if one.verdict else None,
    }


def _sum_json(one: CpuSum) -> dict[str, Any]:  # Any: JSON values
    return {"base": one.base, "head": one.head, "ratio": _estimate_json(one.ratio) if one.ratio else None}


def _estimate_json(one: Estimate) -> dict[str, float | None]:
    known = math.isfinite(one.high)
    return {"median": one.median, "low": one.low if known else None, "high": one.high if known else None}
