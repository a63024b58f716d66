"""A table of results for people and programs: on the terminal, CSV, JSON, Parquet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from rich.table import Column, Table
from rich.text import Text

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.printable import json_text, printable
from rabbitray.cluster.cli.values import column_values, names, rows

Format = Literal["table", "csv", "json", "parquet"]
FORMATS: Final[tuple[Format, ...]] = ("table", "csv", "json", "parquet")
ENDINGS: Final[Mapping[str, Format]] = {".csv": "csv", ".json": "json", ".parquet": "parquet"}
CELL_MOST: Final = 200


def encoded(table: pa.Table, form: Format) -> bytes:
    """The table in one of the forms for programs, uncut; JSON is one list of objects, times in ISO 8601, bytes base64.

    What a form has no type for is text there: in CSV bytes (hexadecimal) and nested values (JSON), in both intervals
    and unions, in CSV times beyond Python's. See `json_text` for what JSON has no type for.
    """
    if form == "csv":
        return _written(pyarrow.csv.write_csv, _with_texts(table, _csv_has_no))
    if form == "parquet":
        return _written(pyarrow.parquet.write_table, _with_texts(table, _parquet_has_no))
    return json_text(rows(table)).encode() + b"\n"


def drawn(table: pa.Table) -> Table:
    """The table for a terminal: cells are text, never markup, and hold nothing that a terminal obeys."""
    return _drawn(names(table), zip(*map(column_values, table.columns), strict=True))


def drawn_rows(found: Sequence[Mapping[str, object]]) -> Table:
    """The same of rows that are alike; at least one."""
    return _drawn(found[0], (row.values() for row in found))


def _drawn(titles: Iterable[str], cells: Iterable[Iterable[object]]) -> Table:
    found = Table(*(Column(_cell(title)) for title in titles), box=None, header_style="bold", pad_edge=False)
    for row in cells:
        found.add_row(*map(_cell, row))
    return found


def _cell(value: object) -> Text:
    return Text(shown(value))


def shown(value: object, most: int = CELL_MOST) -> str:
    """One value as people read it: on one line, printable, cut to `most` characters."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, bytes):
        return value.hex() if len(value) <= most // 2 else f"{value[: most // 2].hex()}..."
    text = json_text(value) if isinstance(value, dict | list) else str(value)
    return printable(text) if len(text) <= most else f"{printable(text[:most])}..."


def save(path: Path, content: bytes) -> None:
    """Writes a file that exists under its name only when it is whole; raises ConfigurationError where it cannot."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            draft.write_bytes(content)
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error


def _written(write: object, table: pa.Table) -> bytes:
    sink = BytesIO()
    assert callable(write)
    write(table, sink)
    return sink.getvalue()


def _with_texts(table: pa.Table, wrong: Callable[[pa.DataType], bool]) -> pa.Table:
    """The table with text in place of the columns of which the form knows no such type."""
    columns = [_texts(column) if wrong(column.type) else column for column in table.columns]
    return pa.table(columns, names=names(table))


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values as text, uncut; the column as it is where all of its times are within Python's."""
    values = column_values(column)
    if pa.types.is_temporal(column.type) and not any(isinstance(value, str) for value in values):
        return column
    texts = [None if value is None else shown_whole(value) for value in values]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _csv_has_no(kind: pa.DataType) -> bool:
    """Nested values and bytes; of times it writes none that is beyond Python's."""
    return pa.types.is_nested(kind) or pa.types.is_temporal(kind) or _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or isinstance(kind, pa.BaseExtensionType)


def _parquet_has_no(kind: pa.DataType) -> bool:
    """Intervals and unions, also inside of others."""
    inside = (kind.field(place).type for place in range(kind.num_fields)) if pa.types.is_nested(kind) else ()
    return pa.types.is_interval(kind) or pa.types.is_union(kind) or any(map(_parquet_has_no, inside))


def shown_whole(value: object) -> str:
    """A value as text, uncut: bytes as hexadecimal, times and texts as they are, others as JSON."""
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str) else json_text(value)
