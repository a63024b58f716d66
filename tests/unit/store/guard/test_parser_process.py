"""Statements on which DuckDB's parser spends time and memory without end: a process of their own dies of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from rabbitray.actors.store.guard.parser_process import ParserProcess

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.guard.parsing import parse
from rabbitray.actors.store.store import Store
from tests.kit.sql_statements import READS, REFUSED
from tests.kit.store_rows import rows_of

ENDLESS = "WITH a AS (" * 14


@pytest.fixture
def parser() -> Iterator[ParserProcess]:
    made = ParserProcess()
    yield made
    made.close()


def test_the_process_says_what_this_one_would(parser: ParserProcess) -> None:
    con = duckdb.connect()
    for sql in [*READS, *REFUSED, "SELECT 'é\u2028\x00\ud800'"]:
        try:
            here: object = parse(con, sql)
        except (QueryError, duckdb.Error) as error:
            here = next(iter(str(error).strip().splitlines()))
        try:
            there: object = parser.parse(sql)
        except QueryError as error:
            there = str(error)
        assert there == here, sql
    con.close()


@pytest.mark.slow
async def test_a_statement_that_is_parsed_for_ever_costs_no_commit(parser: ParserProcess, tmp_path: Path) -> None:
    store = Store(StoreConfig(path=tmp_path / "r.duckdb"), parse=lambda con, sql: parser.parse(sql))
    await store.open()
    epoch = await store.register("a")
    with pytest.raises(QueryError, match="too much time or memory to parse"):
        await store.query(ENDLESS, timeout_s=60)
    assert (await store.write(epoch, rows_of(["a"]))).committed == 1
    assert (await store.query("SELECT count(*) AS n FROM results", timeout_s=60)).to_pylist() == [{"n": 1}]
    await store.close()
