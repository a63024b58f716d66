"""Rows, tables and a plot of replays side by side. Pure but for the plot file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rabbitray.autoscale.policy.signals import PolicyLimits
from rabbitray.autoscale.simulation.baselines import baselines
from rabbitray.autoscale.simulation.ideal import clairvoyant
from rabbitray.autoscale.simulation.loads import Load
from rabbitray.autoscale.simulation.simulate import Plant, Policy, Rabbitray, SimulatedRun, simulate


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRow:
    """One policy on one load, as `bench policies` prints it; `drained_s` is None where messages are `unfinished`."""

    load: str
    messages: int
    duration_s: int
    policy: str
    p95_age_s: float
    target_age_s: float
    worker_seconds: float
    ideal_worker_seconds: float
    load_changes: int
    direction_changes: int
    drained_s: float | None
    peak: int
    unfinished: int = 0

    def as_json(self) -> dict[str, Any]:  # what JSON holds: text, numbers, null
        """The row as plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The rows of one load, and the runs behind them."""

    load: Load
    rows: tuple[ComparisonRow, ...]
    runs: tuple[SimulatedRun, ...]


def compare(load: Load, plant: Plant, policies: Iterable[Policy], target_age_s: float) -> Comparison:
    """Run every policy over the load, against the same clairvoyant schedule."""
    ideal = clairvoyant(load, plant, target_age_s)
    runs = tuple(simulate(load, policy, plant) for policy in policies)
    rows = tuple(_row(run, target_age_s, ideal.worker_seconds) for run in runs)
    return Comparison(load=load, rows=rows, runs=runs)


def against_baselines(load: Load, plant: Plant, target_age_s: float | None = None) -> Comparison:
    """Ours and the rules of others; the age target is `drain_target_s` where none is given."""
    target = plant.limits.drain_target_s if target_age_s is None else target_age_s
    ours = Rabbitray(limits=plant.limits)
    return compare(load, plant, [ours, *baselines(plant, target)], target)


def replay(load: Load, settings: Mapping[str, PolicyLimits], plant: Plant) -> Comparison:
    """Our policy under several settings side by side: what `rabbitray replay` shows.

    Each setting is run in the plant with its own limits and measured against its own clairvoyant schedule.
    """
    rows: list[ComparisonRow] = []
    runs: list[SimulatedRun] = []
    for name, limits in settings.items():
        own = replace(plant, limits=limits)
        found = compare(load, own, [Rabbitray(limits=limits, name=name)], limits.drain_target_s)
        rows.extend(found.rows)
        runs.extend(found.runs)
    return Comparison(load=load, rows=tuple(rows), runs=tuple(runs))


def with_baselines(found: Comparison, plant: Plant) -> Comparison:
    """What was found, and after it the rules of others on the same load; the age target is `drain_target_s`."""
    target = plant.limits.drain_target_s
    others = compare(found.load, plant, baselines(plant, target), target)
    return Comparison(load=found.load, rows=found.rows + others.rows, runs=found.runs + others.runs)


def table(rows: Iterable[ComparisonRow]) -> str:
    """The rows as a Markdown table."""
    head = (
        "| load | policy | p95 age s | target s | worker-seconds | of clairvoyant | changes (load) | drained s | peak |"
    )
    lines = [head, "|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    lines.extend(
        f"| {r.load} | {r.policy} | {r.p95_age_s:.2f} | {r.target_age_s:g} | {r.worker_seconds:,.0f} "
        f"| {_times(r)} | {r.direction_changes} ({r.load_changes}) "
        f"| {_drained(r)} | {r.peak} |"
        for r in rows
    )
    return "\n".join(lines)


def _drained(row: ComparisonRow) -> str:
    """When all was done, or what was left as the replay stopped."""
    return f"{row.drained_s:,.1f}" if row.drained_s is not None else f"not drained ({row.unfinished:,} left)"


def _times(row: ComparisonRow) -> str:
    """How many times the worker-seconds of the schedule that knows the load; "-" where that needs none."""
    return f"{row.worker_seconds / row.ideal_worker_seconds:.2f}" if row.ideal_worker_seconds else "-"


def plot(comparisons: Iterable[Comparison], path: Path) -> None:
    """Draw load, pool sizes and waiting messages of each comparison into a PNG file.

    Needs matplotlib (dependency group `bench`); raises ModuleNotFoundError without it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = list(comparisons)
    figure = Figure(figsize=(13, 2.9 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), 3, squeeze=False)
    for line, comparison in zip(axes, shown, strict=True):
        line[0].plot(comparison.load.counts, color="black", linewidth=0.7)
        line[0].set_title(f"{comparison.load.name}: messages per second")
        for run in comparison.runs:
            width = 2.0 if run.policy == comparison.runs[0].policy else 0.9
            line[1].plot(run.targets, label=run.policy, linewidth=width)
            line[2].plot(run.waiting, label=run.policy, linewidth=width)
        line[1].set_title("workers wanted")
        line[2].set_title("messages ready")
        line[2].set_yscale("symlog")
        line[1].legend(fontsize=6)
    figure.savefig(path, dpi=110)


def _row(run: SimulatedRun, target_age_s: float, ideal: float) -> ComparisonRow:
    return ComparisonRow(
        load=run.load.name,
        messages=sum(run.load.counts),
        duration_s=run.load.duration_s,
        policy=run.policy,
        p95_age_s=round(run.p95_age_s, 3),
        target_age_s=target_age_s,
        worker_seconds=round(run.worker_seconds, 1),
        ideal_worker_seconds=round(ideal, 1),
        load_changes=run.load.changes,
        direction_changes=run.direction_changes,
        drained_s=None if run.drained_s is None else round(run.drained_s, 1),
        peak=run.peak,
        unfinished=run.unfinished,
    )
