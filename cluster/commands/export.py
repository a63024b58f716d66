"""`rabbitray export`: whole tables as Parquet files, also while the pool runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import click
import pyarrow as pa
import pyarrow.compute

from rabbitray.actors.errors import ConfigurationError
from rabbitray.cluster.cli.options import REACH, with_settings
from rabbitray.cluster.cli.progress_bar import Bar
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.results.parquet import write_parquet
from rabbitray.cluster.results.reader import Reader, results
from rabbitray.cluster.settings import Loaded

TABLES: Final = ("results", "conflicts", "dead_letters", "failures", "decisions")


@click.command("export")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--table", "tables", type=click.Choice(TABLES), multiple=True, default=("results",), show_default=True,
    help="What to export; may be given several times.",
)  # fmt: skip
@click.option("--after", type=click.IntRange(0), metavar="SEQ", help="Only results after this `seq`: what is new.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_settings("results", *REACH)
def command(loaded: Loaded, directory: Path, tables: tuple[str, ...], after: int | None, as_json: bool) -> int:
    """Write whole tables as Parquet files into DIRECTORY.

    \b
    rabbitray export out                        out/results.parquet
    rabbitray export out --after 41000          out/results-after-41000.parquet, only what came since

    A file is there under its name only when it is whole. The last `seq` is printed: give it to the next --after.
    """
    if after is not None and set(tables) != {"results"}:
        raise click.UsageError("--after numbers results: it goes with --table results only")
    with results(loaded) as reader:
        written = [_export(reader, table, directory, after, quiet=as_json) for table in tables]
        tell(f"from {reader.where}", err=True)
    if as_json:
        tell_json({"files": written})
        return 0
    for one in written:
        last = f", last seq {one['last_seq']}" if one["last_seq"] is not None else ""
        tell(f"{one['rows']:,} rows of {one['table']} in {one['file']}{last}")
    return 0


def _export(reader: Reader, table: str, directory: Path, after: int | None, *, quiet: bool) -> dict[str, object]:
    where = f" WHERE seq > {after}" if after is not None else ""
    name = f"{table}.parquet" if after is None else f"{table}-after-{after}.parquet"
    total: int = reader.query(f"SELECT count(*) AS n FROM {table}{where}")["n"][0].as_py()
    with Bar(f"exporting {table}", total, quiet=quiet) as bar:
        count = Count(bar, numbered=table == "results", last=after)
        path = _write(count.passing(reader.stream(f"SELECT * FROM {table}{where}")), directory, name)
    return {"table": table, "file": str(path), "rows": count.rows, "last_seq": count.last}


class Count:
    """Counts what passes, and keeps the highest `seq`."""

    def __init__(self, bar: Bar, *, numbered: bool, last: int | None) -> None:
        self._bar = bar
        self._numbered = numbered
        self.rows = 0
        self.last = last

    def passing(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches as they are."""
        for batch in batches:
            self.rows += batch.num_rows
            if self._numbered and batch.num_rows:
                highest: int = pyarrow.compute.max(batch.column("seq")).as_py()
                self.last = max(highest, self.last or 0)
            self._bar.advance(batch.num_rows, self.rows)
            yield batch


def _write(batches: Iterator[pa.RecordBatch], directory: Path, name: str) -> Path | None:
    try:
        return write_parquet(batches, directory, name)
    except OSError as error:
        raise ConfigurationError(f"cannot write {directory / name}: {error.strerror or error}") from error
