"""`rabbitray plan`: how many workers a load needs."""

from __future__ import annotations

import os
from dataclasses import asdict
from math import ceil

import click

from rabbitray.actors.remote.placement.kind import GPU, UNIT, WorkerKind, amount, shown
from rabbitray.autoscale.plan import Plan, plan, text
from rabbitray.cluster.cli.durations import Duration
from rabbitray.cluster.cli.options import with_settings
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.driver import compose
from rabbitray.cluster.driver.session import MOST_EVER, MOST_WORKERS
from rabbitray.cluster.settings import Loaded

POLICY = ("min_size", "max_size", "drain_target_s", "target_utilization", "downscale_delay_s")


@click.command("plan")
@click.option("--rate", type=float, required=True, metavar="N", help="Messages per second that arrive, to 50,000.")
@click.option("--service", type=Duration(), required=True, metavar="TIME", help="How long one job takes, e.g. 0.2s.")
@click.option(
    "--age-target", type=Duration(), default=30.0, metavar="TIME",
    help="95 of 100 messages are done within this time [30s].",
)  # fmt: skip
@click.option("--slots", type=click.IntRange(1), default=1, show_default=True, help="Jobs at once in a worker (async).")
@click.option("--start", type=Duration(), default=3.0, metavar="TIME", help="How long a worker takes to start [3s].")
@click.option("--cores", type=click.IntRange(1), default=None, metavar="N", help="CPU cores [those of this machine].")
@click.option("--db-pool", type=click.IntRange(1), default=10, show_default=True, help="For the report's formula.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_settings(*POLICY, "worker_num_cpus", "worker_resources")
def command(
    loaded: Loaded,
    rate: float,
    service: float,
    age_target: float,
    slots: int,
    start: float,
    cores: int | None,
    db_pool: int,
    as_json: bool,
) -> int:
    """How many workers a load needs: the report's formula and presets, and ten minutes in the simulator.

    \b
    rabbitray plan --rate 200 --service 0.3s --age-target 10s
    rabbitray plan --rate 200 --service 0.3s --slots 32        an async handler

    Exit code 1 when the elastic pool, with these settings, misses the age target.
    """
    found = plan(
        rate,
        service,
        age_target,
        cpu_cores=cores or os.cpu_count() or 1,
        db_pool=db_pool,
        start_s=start,
        slots=slots,
        limits=compose.autoscale_limits(loaded.settings, _most(rate, service, slots)),
    )
    (kind,) = loaded.settings.worker_kinds
    if as_json:
        tell_json(_as_json(found) | {"resources": {shown(name): much for name, much in _taken(found, kind).items()}})
    else:
        tell(*text(found).split("\n"), resources(found, kind))
    return 0 if found.meets_target else 1


def _as_json(found: Plan) -> dict[str, object]:
    return asdict(found) | {"meets_target": found.meets_target}


def _most(rate: float, service_s: float, slots: int) -> int:
    """The bound of the trial where the settings have none: the cluster is not asked."""
    busy = rate * service_s / slots
    return max(MOST_WORKERS, 2 * ceil(min(busy, MOST_EVER / 2))) if busy > 0 else MOST_WORKERS


def _taken(found: Plan, kind: WorkerKind) -> dict[str, float]:
    """What the elastic pool takes of the cluster at its largest: Ray's name of a resource -> how much."""
    return {name: found.elastic_peak * taken / UNIT for name, taken in kind.bundle.items()}


def resources(found: Plan, kind: WorkerKind) -> str:
    """What the cluster must have for the elastic pool at its largest."""
    taken = {name: ceil(much) if name == GPU else much for name, much in _taken(found, kind).items()}
    words = ", ".join(f"{shown(name)}={amount(name, round(much * UNIT))}" for name, much in taken.items())
    return f"  that many workers take {words or 'nothing'} ({kind.words} each)"
