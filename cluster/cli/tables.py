"""A table of results for people and programs: on the terminal, CSV, JSON, Parquet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Final, Literal

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from rich.table import Table

from rabbitray.actors.errors import ConfigurationError

Format = Literal["table", "csv", "json", "parquet"]
FORMATS: Final[tuple[Format, ...]] = ("table", "csv", "json", "parquet")
ENDINGS: Final[Mapping[str, Format]] = {".csv": "csv", ".json": "json", ".parquet": "parquet"}
CELL_MOST: Final = 200


def encoded(table: pa.Table, form: Format) -> bytes:
    """The table in one of the forms for programs; JSON is one list of objects, times in ISO 8601, bytes base64."""
    if form == "csv":
        return _written(pyarrow.csv.write_csv, _as_csv(table))
    if form == "parquet":
        return _written(pyarrow.parquet.write_table, table)
    return msgspec.json.encode(rows(table)) + b"\n"


def rows(table: pa.Table) -> list[dict[str, object]]:
    """The rows as plain values; whole decimals (DuckDB's sums) become integers."""
    return [{name: _plain(value) for name, value in row.items()} for row in table.to_pylist()]


def drawn(table: pa.Table) -> Table:
    """The table for a terminal."""
    found = Table(*table.column_names, box=None, header_style="bold", pad_edge=False)
    for row in table.to_pylist():
        found.add_row(*(shown(value) for value in row.values()))
    return found


def shown(value: object) -> str:
    """One value as people read it."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, bytes):
        return value.hex() if len(value) <= CELL_MOST // 2 else f"{value[: CELL_MOST // 2].hex()}..."
    text = str(_plain(value)).replace("[", r"\[")
    return text if len(text) <= CELL_MOST else f"{text[:CELL_MOST]}..."


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


def _as_csv(table: pa.Table) -> pa.Table:
    """CSV knows no nested values and no bytes: they become text."""
    columns = [
        pa.array([None if v is None else shown_whole(v) for v in column.to_pylist()], pa.string())
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type)
        else column
        for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)


def shown_whole(value: object) -> str:
    """A value as text, uncut: bytes as hexadecimal, others as JSON."""
    return value.hex() if isinstance(value, bytes) else msgspec.json.encode(value).decode()


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value
