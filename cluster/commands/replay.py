"""`rabbitray replay`: the autoscaler's own policy over a load, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import click

from actors.errors import ConfigurationError
from autoscale.replay.compare import Comparison, against_baselines, plot, replay, table
from autoscale.replay.loads import SHAPES, Load, from_csv, recorded
from autoscale.replay.simulate import Plant
from autoscale.signals import Limits
from cluster import compose
from cluster.durations import Duration
from cluster.options import REACH, with_settings
from cluster.results import results
from cluster.session import MOST_WORKERS
from cluster.settings import Loaded, load_here

POLICY = (
    "min_size",
    "initial_size",
    "max_size",
    "upscale_delay_s",
    "downscale_delay_s",
    "downscale_to_zero_delay_s",
    "upscaling_factor",
    "downscaling_factor",
    "look_back_period_s",
    "drain_target_s",
    "target_utilization",
    "backlog_per_worker",
    "upscale_step",
)
SERVICE_S = 0.2
RECORDED_SQL = (
    "SELECT epoch(decided_at) AS at, (inputs->'inputs'->>'arrival')::DOUBLE AS arrival, "
    "(inputs->'inputs'->>'speed')::DOUBLE AS speed FROM decisions ORDER BY decided_at"
)
RECORDED_MOST = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Imagined:
    """A shape of load, and its numbers where they are given."""

    shape: str
    low: float | None
    high: float | None
    duration_s: float | None

    def load(self) -> Load:
        """The load."""
        given = {"low": self.low, "high": self.high, "duration_s": self.duration_s and int(self.duration_s)}
        return SHAPES[self.shape](**{name: value for name, value in given.items() if value is not None})


@click.command("replay")
@click.option("--shape", type=click.Choice(tuple(SHAPES)), help="An imagined load [step].")
@click.option("--low", type=click.FloatRange(0), metavar="N", help="Its lower rate, messages per second.")
@click.option("--high", type=click.FloatRange(0), metavar="N", help="Its higher rate.")
@click.option("--duration", type=Duration(), metavar="TIME", help="How long it lasts, e.g. 30m.")
@click.option("--csv", "csv_file", type=click.File("r"), help="A load from a file with the columns second,messages.")
@click.option("--recorded", "from_results", is_flag=True, help="The load of a real run, from its decisions.")
@click.option("--service", type=Duration(), metavar="TIME", help="How long one job takes [0.2s, or as recorded].")
@click.option("--start", type=Duration(), default=3.0, metavar="TIME", help="How long a worker takes to start [3s].")
@click.option("--failure-rate", type=click.FloatRange(0, 1), default=0.0, help="Share of runs that fail and come back.")
@click.option(
    "--with", "variants", multiple=True, metavar="NAME=VALUE,...",
    help="Other settings beside the current ones, e.g. max_size=8,drain_target_s=10; may be given several times.",
)  # fmt: skip
@click.option("--baselines", is_flag=True, help="Beside the rules of Celery, KEDA, Ray Serve and Ray Data.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw a PNG file.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@with_settings("results", *REACH, *POLICY)
def command(
    loaded: Loaded,
    shape: str | None,
    low: float | None,
    high: float | None,
    duration: float | None,
    csv_file: TextIO | None,
    from_results: bool,
    service: float | None,
    start: float,
    failure_rate: float,
    variants: tuple[str, ...],
    baselines: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """The autoscaler over a recorded or imagined load, in virtual time: what would it have done?

    \b
    rabbitray replay --shape spike --low 20 --high 200 --service 0.1s
    rabbitray replay --recorded --with max_size=8 --with max_size=8,downscale_delay_s=5 --plot out.png

    For each setting: the 95th percentile of message age, worker-seconds (and how many times those of a schedule
    that knows the load), changes of direction, and when all was done.
    """
    if sum((shape is not None, csv_file is not None, from_results)) > 1:
        raise click.UsageError("one load at a time: --shape, --csv or --recorded")
    speed_s: float | None = None
    if csv_file is not None:
        load = from_csv(csv_file.read(), Path(csv_file.name).stem)
    elif from_results:
        load, speed_s = _recorded(loaded)
    else:
        load = Imagined(shape=shape or "step", low=low, high=high, duration_s=duration).load()
    limits = {"current": compose.autoscale_limits(loaded.settings, MOST_WORKERS), **_variants(loaded, variants)}
    plant = Plant(
        service_s=service or speed_s or SERVICE_S, start_s=start, failure_rate=failure_rate, limits=limits["current"]
    )
    found = [replay(load, limits, plant)] + ([against_baselines(load, plant)] if baselines else [])
    _show(found, picture, as_json=as_json)


def _recorded(loaded: Loaded) -> tuple[Load, float | None]:
    """The arrivals of a run, and the median of the seconds that a worker took for a message."""
    with results(loaded) as reader:
        rows = reader.query(RECORDED_SQL, max_rows=RECORDED_MOST, timeout_s=60.0).to_pylist()
    load = recorded((row["at"], row["arrival"]) for row in rows if row["arrival"] is not None)
    speeds = sorted(row["speed"] for row in rows if row["speed"])
    return load, (1.0 / speeds[len(speeds) // 2] if speeds else None)


def _variants(loaded: Loaded, texts: Sequence[str]) -> dict[str, Limits]:
    """Each text is settings over those of this command, checked as all settings are."""
    own = {name: getattr(loaded.settings, name) for name in POLICY if loaded.is_set(name)}
    return {text: compose.autoscale_limits(load_here(own | _pairs(text)).settings, MOST_WORKERS) for text in texts}


def _pairs(text: str) -> dict[str, object]:
    pairs: dict[str, object] = {}
    for pair in text.split(","):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or name.replace("-", "_") not in POLICY:
            raise ConfigurationError(f"--with {pair.strip()[:60]!r}: NAME=VALUE with a NAME of {', '.join(POLICY)}")
        pairs[name.replace("-", "_")] = value
    return pairs


def _show(found: Sequence[Comparison], picture: Path | None, *, as_json: bool) -> None:
    rows = [row for comparison in found for row in comparison.rows]
    if picture is not None:
        _draw(found, picture)
    click.echo(json.dumps([row.as_json() for row in rows]) if as_json else table(rows))


def _draw(found: Sequence[Comparison], picture: Path) -> None:
    try:
        plot(found, picture)
    except ModuleNotFoundError as missing:
        raise ConfigurationError("--plot needs matplotlib: install it beside rabbitray") from missing
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot draw {picture}: {error}") from error
    click.echo(f"wrote {picture}", err=True)
