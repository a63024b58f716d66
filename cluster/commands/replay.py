"""`rabbitray replay`: the autoscaler's own policy over a load, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TextIO

import click

from rabbitray.actors.errors import ConfigurationError
from rabbitray.autoscale.policy.signals import PolicyLimits
from rabbitray.autoscale.simulation.compare import Comparison, plot, replay, table, with_baselines
from rabbitray.autoscale.simulation.loads import MOST_S, SHAPES, Load, from_csv, not_empty, recorded
from rabbitray.autoscale.simulation.simulate import Plant
from rabbitray.cluster.cli.durations import Duration
from rabbitray.cluster.cli.options import REACH, with_settings
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.driver import compose
from rabbitray.cluster.driver.session import MOST_WORKERS
from rabbitray.cluster.results.arrival import DEAD_LETTER_ARRIVED
from rabbitray.cluster.results.reader import results
from rabbitray.cluster.settings import Loaded, load_here

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
SERVICE_LEAST_S = 0.0001  # what a job costs a worker however quick its handler is
SERVICE_JOBS = 200_000
ARRIVALS_SQL = f"""
WITH outcomes AS (
  SELECT coalesce(least(published_at, received_at), started_at, committed_at) AS arrived, committed_at AS ended
  FROM results
  UNION ALL
  SELECT {DEAD_LETTER_ARRIVED}, coalesce(recorded_at, dead_at) FROM dead_letters),
run AS (SELECT max(registered_at) AS began FROM runs WHERE registered_at <= (SELECT max(ended) FROM outcomes)),
arrivals AS (
  SELECT greatest(arrived, began) AS arrived FROM outcomes, run WHERE began IS NULL OR ended >= began)
SELECT floor(epoch(arrived))::BIGINT AS second, count(*) AS messages FROM arrivals WHERE arrived IS NOT NULL
GROUP BY second ORDER BY second DESC LIMIT {MOST_S + 1}"""
"""Of the last run with an outcome. What was published before it waited in the queue, and arrives as it begins."""

SERVICE_SQL = f"""
WITH run AS (
  SELECT max(registered_at) AS began FROM runs WHERE registered_at <= (SELECT max(committed_at) FROM results)),
last AS (
  SELECT worker, started_at, finished_at FROM results, run
  WHERE (began IS NULL OR committed_at >= began) AND started_at IS NOT NULL AND finished_at >= started_at
  ORDER BY seq DESC LIMIT {SERVICE_JOBS}),
jobs AS (
  SELECT started_at, finished_at, max(finished_at) OVER (
    PARTITION BY worker ORDER BY started_at, finished_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS until
  FROM last)
SELECT sum(greatest(0, epoch(finished_at) - epoch(greatest(started_at, until)))) / count(*) AS service_s FROM jobs"""
"""Seconds of a worker for one job: the time in which it had any in the handler, over its jobs (async: many at once)."""

READ_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Imagined:
    """A shape of load, and its numbers where they are given."""

    shape: str | None
    low: float | None
    high: float | None
    duration_s: float | None

    def load(self) -> Load:
        """The load."""
        duration_s = None if self.duration_s is None else _whole(self.duration_s)
        given = {"low": self.low, "high": self.high, "duration_s": duration_s}
        return SHAPES[self.shape or "step"](**{name: value for name, value in given.items() if value is not None})


@click.command("replay")
@click.option("--shape", type=click.Choice(tuple(SHAPES)), help="An imagined load [step].")
@click.option("--low", type=click.FloatRange(0), metavar="N", help="Its lower rate, messages per second.")
@click.option("--high", type=click.FloatRange(0), metavar="N", help="Its higher rate.")
@click.option(
    "--duration", type=Duration(), metavar="TIME", help="How long it lasts, e.g. 30m; of --recorded: its last part."
)
@click.option("--csv", "csv_file", type=click.File("r"), help="A load from a file with the columns second,messages.")
@click.option(
    "--recorded", "from_results", is_flag=True, help="The load of the last run, from its results and dead letters."
)
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

    --recorded counts each message in the second in which it was published (or received); what waited before the run
    arrives as it begins. --service is then by default what the workers took for a job.

    For each setting: the 95th percentile of message age, worker-seconds (and how many times those of a schedule
    that knows the load), changes of direction, and when all was done. A replay stops at four times the load's length
    and 60 s: what is left then counts with its age so far, and "not drained" says how much it is.
    """
    imagined = Imagined(shape=shape, low=low, high=high, duration_s=duration)
    load, speed_s = _load(loaded, imagined, csv_file, from_results=from_results)
    limits = {"current": compose.autoscale_limits(loaded.settings, MOST_WORKERS), **_variants(loaded, variants)}
    service_s = service if service is not None else speed_s or SERVICE_S
    plant = Plant(service_s=service_s, start_s=start, failure_rate=failure_rate, limits=limits["current"])
    found = replay(load, limits, plant)
    _show(with_baselines(found, plant) if baselines else found, picture, as_json=as_json)


def _load(
    loaded: Loaded, imagined: Imagined, csv_file: TextIO | None, *, from_results: bool
) -> tuple[Load, float | None]:
    """The load that is asked for, and the recorded seconds for one job where there are any."""
    if sum((imagined.shape is not None, csv_file is not None, from_results)) > 1:
        raise click.UsageError("one load at a time: --shape, --csv or --recorded")
    if (csv_file is not None or from_results) and (imagined.low, imagined.high) != (None, None):
        raise click.UsageError("--low and --high are of an imagined load (--shape)")
    if csv_file is not None:
        if imagined.duration_s is not None:
            raise click.UsageError("--duration is of --shape or --recorded: a file has its own")
        return not_empty(_from_file(csv_file)), None
    if from_results:
        load, service_s = _recorded(loaded, imagined.duration_s)
        return not_empty(load), service_s
    return not_empty(imagined.load()), None


def _whole(duration_s: float) -> int:
    """Whole seconds; ConfigurationError where that is no time that a replay can last."""
    if not 1 <= duration_s <= MOST_S:
        raise ConfigurationError(f"--duration of {duration_s:g} s: a replay lasts from 1 s to {MOST_S:,} s (a week)")
    return int(duration_s)


def _from_file(file: TextIO) -> Load:
    try:
        return from_csv(file.read(), Path(file.name).stem)
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"--csv {file.name} is no text: {error}") from error


def _recorded(loaded: Loaded, last_s: float | None) -> tuple[Load, float | None]:
    """The arrivals of the last run (of its last seconds, where given), and a worker's seconds for one job."""
    longest = None if last_s is None else _whole(last_s)
    with results(loaded) as reader:
        rows = reader.query(ARRIVALS_SQL, max_rows=MOST_S + 1, timeout_s=READ_WITHIN_S).to_pylist()
        took_s = reader.query(SERVICE_SQL, timeout_s=READ_WITHIN_S).to_pylist()[0]["service_s"]
    after = rows[0]["second"] - longest if rows and longest is not None else -inf
    load = recorded((row["second"], row["messages"]) for row in rows if row["second"] > after)
    return load, None if took_s is None else max(took_s, SERVICE_LEAST_S)


def _variants(loaded: Loaded, texts: Sequence[str]) -> dict[str, PolicyLimits]:
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


def _show(found: Comparison, picture: Path | None, *, as_json: bool) -> None:
    if picture is not None:
        _draw(found, picture)
    if as_json:
        tell_json([row.as_json() for row in found.rows])
    else:
        tell(*table(found.rows).split("\n"))


def _draw(found: Comparison, picture: Path) -> None:
    try:
        plot([found], picture)
    except ModuleNotFoundError as missing:
        raise ConfigurationError("--plot needs matplotlib: install it beside rabbitray") from missing
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot draw {picture}: {error}") from error
    tell(f"wrote {picture}", err=True)
