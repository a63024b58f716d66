"""A statement whose plan grows without bound is refused before DuckDB plans it."""

from __future__ import annotations

import json

import duckdb
import pytest
from rabbitray.actors.store.guard.expansion import MOST_TABLES, require_few_tables

from rabbitray.actors.errors import QueryError


def parsed(sql: str) -> object:
    with duckdb.connect() as con:
        found = con.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    assert found is not None
    return json.loads(found[0])


def doubled(body: str, times: int) -> str:
    withs = [f"w{n + 1} AS NOT MATERIALIZED ({body.format(before=f'w{n}')})" for n in range(times)]
    return f"WITH w0 AS (SELECT 1 AS a), {', '.join(withs)} SELECT * FROM w{times}"


UNION = "SELECT * FROM {before} UNION ALL SELECT * FROM {before}"
COLUMNS = "SELECT x.*, y.* FROM {before} x, {before} y"
SUBQUERIES = "SELECT (SELECT max(a) FROM {before}) + (SELECT min(a) FROM {before}) AS a"
NESTED = "WITH v AS (SELECT * FROM {before}) SELECT * FROM v UNION ALL SELECT * FROM V"


@pytest.mark.parametrize("body", [UNION, COLUMNS, SUBQUERIES, NESTED])
def test_withs_that_double_are_refused_however_many(body: str) -> None:
    for times in (13, 26, 90):
        with pytest.raises(QueryError, match=rf"more than {MOST_TABLES:,} tables"):
            require_few_tables(parsed(doubled(body, times)))
    require_few_tables(parsed(doubled(body, 11)))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT * FROM n",
        "WITH results AS (SELECT * FROM results), r AS (SELECT * FROM results a JOIN results b USING (key)) TABLE r",
        "WITH " + ", ".join(f"w{n} AS (SELECT * FROM t{n})" for n in range(300)) + " SELECT * FROM w299",
        doubled("SELECT * FROM {before}", 100),
    ],
)
def test_what_people_ask_is_not(sql: str) -> None:
    require_few_tables(parsed(sql))


def test_a_chain_without_end_is_one_line() -> None:
    with pytest.raises(QueryError, match="too many WITHs"):
        require_few_tables(parsed(doubled("SELECT * FROM {before}", 3_000)))
