"""`python -m bench policies`: our policy and the rules of others over the same loads, in virtual time."""

from __future__ import annotations

from pathlib import Path

from rabbitray.autoscale.simulation.compare import Comparison, ComparisonRow, against_baselines, plot
from rabbitray.autoscale.simulation.compare import table as rows_table
from rabbitray.autoscale.simulation.loads import Load, poisson, ramp, sine, spike, square, step
from rabbitray.autoscale.simulation.simulate import Plant

LOWER_IS_BETTER = ("ratio_to_ideal",)

PLOT = Path(__file__).parent / "results" / "policies.png"


def loads(*, quick: bool) -> list[Load]:
    """The loads of the bench; `quick` has shorter ones."""
    if quick:
        short = [step(duration_s=300), spike(), square(duration_s=500, cycles=1)]
        return [*short, sine(duration_s=600, cycles=1), poisson(duration_s=900)]
    return [step(), ramp(), spike(), square(), sine(), poisson()]


def compared(*, quick: bool) -> list[Comparison]:
    """Every load under every policy."""
    return [against_baselines(load, Plant()) for load in loads(quick=quick)]


def run(*, quick: bool) -> list[dict[str, str | int | float]]:
    """One row for each load and policy; a full run also draws `bench/results/policies.png`.

    `ratio_to_ideal`: worker-seconds, of those of the schedule that knows the load; not there where that needs none.
    """
    found = compared(quick=quick)
    if not quick:
        PLOT.parent.mkdir(exist_ok=True)
        plot(found, PLOT)
    return [as_json(row) for comparison in found for row in comparison.rows]


def as_json(row: ComparisonRow) -> dict[str, str | int | float]:
    """The row and its `ratio_to_ideal`."""
    ideal = row.ideal_worker_seconds
    return row.as_json() | ({"ratio_to_ideal": round(row.worker_seconds / ideal, 4)} if ideal else {})


def table(result: list[dict[str, str | int | float]]) -> str:
    """The rows as a Markdown table."""
    plain = [{name: value for name, value in row.items() if name != "ratio_to_ideal"} for row in result]
    return rows_table(ComparisonRow(**row) for row in plain)  # type: ignore[arg-type]  # rows came from as_json
