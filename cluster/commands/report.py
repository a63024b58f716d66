"""`rabbitray report`: one HTML page about what a results file records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from rabbitray.actors.errors import StoreOpenError
from rabbitray.cluster.cli.durations import Duration
from rabbitray.cluster.cli.options import REACH, with_settings
from rabbitray.cluster.cli.tables import save
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.cli.values import rows
from rabbitray.cluster.results.reader import Reader, results, whole
from rabbitray.cluster.results.report import Ask, RecordedRun, page, read_run
from rabbitray.cluster.settings import Loaded

TIMEOUT_S = 120.0
ROWS_MOST = 10_000


@click.command("report")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("report.html"), show_default=True,
    help="The page.",
)  # fmt: skip
@click.option("--last", "last_s", type=Duration(), metavar="TIME", help="Only what ended in the last 90s, 15m, 2h, 7d.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
@with_settings("results", *REACH)
def command(loaded: Loaded, file: Path | None, output: Path, last_s: float | None, as_json: bool) -> int:
    """Make one HTML page of a results file: backlog, workers, throughput, latency, errors, dead letters.

    \b
    rabbitray report results.duckdb -o report.html
    rabbitray report --last 2h

    The page loads nothing from anywhere: send it, keep it, open it offline. While a pool runs it is asked through
    the pool (add --queue or --pool where they are not the default).
    """
    if file is not None:
        if not file.exists():
            raise StoreOpenError(f"there is no results file {file}: run a pool first, or name another file")
        loaded = loaded.asked(results=file)
    since = None if last_s is None else datetime.now(UTC) - timedelta(seconds=last_s)
    with results(loaded) as reader:
        run = read_run(_asking(reader), loaded.settings.results.name, since=since)
    save(output, page(run, made_at=datetime.now(UTC)).encode())
    tell(f"from {reader.where}", err=True)
    _show(output, run, as_json=as_json)
    return 0


def _asking(reader: Reader) -> Ask:
    def ask(sql: str) -> Sequence[dict[str, object]]:
        return rows(whole(reader.query(sql, max_rows=ROWS_MOST, timeout_s=TIMEOUT_S)))

    return ask


def _show(output: Path, run: RecordedRun, *, as_json: bool) -> None:
    if as_json:
        tell_json({"report": str(output)} | run.summary())
        return
    conflicts = f", {run.conflicts:,} keys with another message's result" if run.conflicts else ""
    tell(
        f"wrote {output}: {run.done:,} done, {run.dead:,} dead{conflicts}, "
        f"{len(run.decisions):,} records of the autoscaler"
    )
