"""Rows of earlier parts, which lack what came later, and rows of others."""

from __future__ import annotations

import pyarrow as pa
import pytest

from rabbitray.actors.message.rows import DEAD_LETTER_SCHEMA, RESULT_SCHEMA, conform
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
