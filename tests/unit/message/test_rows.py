"""Rows of earlier parts, which lack what came later, and rows of others."""

from __future__ import annotations

import pyarrow as pa
import pytest

from rabbitray.actors.message.rows import (
    AS_BYTES_BELOW,
    DEAD_LETTER_SCHEMA,
    RESULT_SCHEMA,
    conform,
    from_stream,
    to_stream,
)
from tests.kit.store_rows import dead_rows, rows_of


@pytest.mark.parametrize(
    ("rows", "schema", "later"),
    [(rows_of(["a", "b"]), RESULT_SCHEMA, "payload_hash"), (dead_rows(["a"]), DEAD_LETTER_SCHEMA, "raw_properties")],
)
def test_rows_without_a_later_column_have_null_there(rows: pa.Table, schema: pa.Schema, later: str) -> None:
    found = conform(rows.drop_columns([later]), schema)
    assert found.schema.equals(schema)
    assert found[later].null_count == rows.num_rows
    assert conform(found, schema) is found


def test_rows_without_another_column_are_refused() -> None:
    with pytest.raises(KeyError):
        conform(rows_of(["a"]).drop_columns(["status"]), RESULT_SCHEMA)


@pytest.mark.parametrize(("keys", "kind"), [([], bytes), (["a"], bytes), (["x" * AS_BYTES_BELOW], pa.Buffer)])
def test_rows_cross_as_they_are_and_small_ones_as_bytes(keys: list[str], kind: type) -> None:
    rows = rows_of(keys)
    stream = to_stream(rows)
    assert isinstance(stream, kind)
    assert from_stream(stream).equals(rows)
    assert from_stream(stream).schema.equals(RESULT_SCHEMA)
