"""The functions that queries may call: known to DuckDB, decided one by one, and without any effect."""

from __future__ import annotations

from pathlib import Path

import duckdb

from rabbitray.actors.store.guard.functions import FUNCTIONS, TABLE_FUNCTIONS
from tests.kit.bait import baited

NOT_LISTED = {"count_star", "unnest", "->"}
"""What the parser makes of `count(*)`, `unnest(...)` and `->`."""

CALLED_BY_DUCKDB = ("__", "collate_", "icu_collate_", "pg_", "has_", "inet_", "json_copy_", "!__")
NOT_FOR_QUERIES = """
bitstring_byte_comparable col_description combine combine_aggr constant_or_null create_sort_key currval
current_connection_id current_query current_query_id current_transaction_id decimal_average finalize format_pg_type
get_block_size icu_sort_key in_search_path index_key invoke is_histogram_other_bin json_deserialize_sql
json_serialize_plan json_serialize_sql make_type map_to_pg_oid nextval obj_description parse_duckdb_log_message
remap_struct replace_type setseed setval shobj_description sleep_ms stats sum_no_overflow timetz_byte_comparable
to_aggregate_state txid_current variant_bytes_to_variant variant_comparator variant_group_array
variant_group_object variant_to_parquet_variant vector_type vertex_extract write_log
"""
CALLS = {
    "generate_series": "(1, 2)",
    "json_each": "('{}')",
    "json_tree": "('{}')",
    "range": "(3)",
    "repeat": "(1, 2)",
    "repeat_row": "(1, num_rows := 2)",
    "summary": "((SELECT 1))",
    "unnest": "([1])",
}


def _named(kinds: str) -> set[str]:
    sql = f"SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE function_type IN ({kinds})"
    with duckdb.connect() as con:
        return {name for (name,) in con.execute(sql).fetchall()}


def test_each_function_of_duckdb_is_decided() -> None:
    """A function that a later DuckDB brings is refused until somebody has looked at it, and put it into one set."""
    known = _named("'scalar', 'aggregate', 'macro', 'window'")
    assert known >= FUNCTIONS - NOT_LISTED
    open_ = {name for name in known - FUNCTIONS if not name.startswith(CALLED_BY_DUCKDB) and " " not in name}
    assert open_ == set(NOT_FOR_QUERIES.split())
    assert _named("'table'") >= TABLE_FUNCTIONS


def test_no_table_function_that_may_be_called_touches_a_file(tmp_path: Path) -> None:
    with baited(tmp_path) as file:
        before = file.state()
        for name in sorted(TABLE_FUNCTIONS):
            file.ask(f"SELECT count(*) FROM {name}{CALLS.get(name, '()')}")
            assert file.state() == before, name
        assert before["locked"]


def test_no_table_function_else_can_be_called(tmp_path: Path) -> None:
    with baited(tmp_path) as file:
        before = file.state()
        for name in sorted(_named("'table', 'table_macro'") - TABLE_FUNCTIONS):
            for called in (name, f'"{name.upper()}"', f"main.{name}"):
                refused = file.refusal(f"SELECT * FROM {called}('{file.results}')")
                assert "is not for queries" in refused, called
        assert file.state() == before
