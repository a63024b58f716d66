"""`rabbitray query`: SQL over the results, also while the pool runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import click
import pyarrow as pa
from rich.console import Console

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.config import ANSWER_BYTES
from rabbitray.actors.store.query import truncated
from rabbitray.cluster.cli.options import REACH, with_settings
from rabbitray.cluster.cli.tables import ENDINGS, FORMATS, Format, drawn, encoded, save
from rabbitray.cluster.cli.terminal import console, tell
from rabbitray.cluster.results.reader import results
from rabbitray.cluster.settings import Loaded

PIPE_WIDTH = 200
MIB = 1024 * 1024


@click.command("query")
@click.argument("sql")
@click.option("--format", "form", type=click.Choice(FORMATS), help="How to print; by default a table, or what -o says.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write a file instead.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json: one list of objects.")
@with_settings("results", *REACH, "query_max_rows", "query_timeout_ms")
def command(loaded: Loaded, sql: str, form: str | None, output: Path | None, as_json: bool) -> int:
    """Ask the results with one read-only SQL statement.

    \b
    rabbitray query "SELECT message_type, count(*) FROM results GROUP BY 1"
    rabbitray query "SELECT * FROM dead_letters" --format csv -o dead.csv

    Tables: results, conflicts, dead_letters, failures, decisions, control, runs; `rabbitray query "DESCRIBE results"`
    shows columns. Where the pool runs it is asked (add --queue or --pool where they are not the default), the file
    otherwise, or where --results names it; a line says which. At most --query-max-rows rows: `rabbitray export` writes
    all. An answer with more is cut where people read it, with a note; for a file, CSV and JSON it is an error, unless
    --query-max-rows stands on the command line.
    """
    chosen = _form(form, output, as_json=as_json)
    settings = loaded.settings
    with results(loaded) as reader:
        table = reader.ask(sql, max_rows=settings.query_max_rows, timeout_s=settings.query_timeout_ms / 1000)
        cut = _cut(table, settings.query_max_rows, reader.where) if truncated(table) else ""
        asked = loaded.is_asked("query_max_rows") and table.num_rows == settings.query_max_rows
        if cut and not asked and not _for_people(chosen, output):
            raise QueryError(f"{cut}; nothing was written")
        _give(table, chosen, output)
        tell(f"from {reader.where}", err=True)
    if cut:
        tell(f"note: {cut}", err=True)
    return 0


def _cut(table: pa.Table, most: int, where: str) -> str:
    return (
        f"only the first {table.num_rows:,} rows of {where} (at most {most:,} rows and "
        f"{ANSWER_BYTES // MIB} MiB): raise --query-max-rows, or use `rabbitray export`"
    )


def _for_people(form: Format, output: Path | None) -> bool:
    """Whether somebody sees it, and the note beside it; who reads a file or a pipe takes it for the whole answer."""
    return output is None and (form == "table" or sys.stdout.isatty())


def _form(form: str | None, output: Path | None, *, as_json: bool) -> Format:
    by_name = ENDINGS.get(output.suffix.lower(), "table") if output is not None else "table"
    chosen = "json" if as_json else cast("Format", form or by_name)
    if chosen == "parquet" and output is None:
        raise click.UsageError("Parquet is no text: name a file with -o FILE")
    return chosen


def _give(table: pa.Table, form: Format, output: Path | None) -> None:
    if form == "table":
        _draw(table, output)
    elif output is None and form == "csv" and sys.stdout.isatty():  # read by people; a file or a pipe gets all bytes
        tell(*encoded(table, form).decode().removesuffix("\n").split("\n"))
    elif output is None:
        sys.stdout.buffer.write(encoded(table, form))
        sys.stdout.buffer.flush()
    else:
        _save(output, encoded(table, form))


def _draw(table: pa.Table, output: Path | None) -> None:
    if output is not None:
        paper = Console(width=PIPE_WIDTH, record=True, quiet=True)
        paper.print(drawn(table))
        _save(output, paper.export_text().encode())
        return
    console(PIPE_WIDTH).print(drawn(table))


def _save(path: Path, content: bytes) -> None:
    save(path, content)
    tell(f"wrote {path}", err=True)
