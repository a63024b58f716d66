"""Generated statements, spelled in every way: each one reads or is refused, and nothing else happens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rabbitray.actors.errors import QueryError
from tests.kit.bait import SECRET, Baited, baited
from tests.kit.sql_grammar import any_sql, reading_sql

OURS = (
    "is not for queries",
    "only tables of the results file",
    "a statement may only read",
    "may be asked",
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Baited]:
    with baited(tmp_path_factory.mktemp("baited")) as made:
        yield made


def _reads_or_is_refused(file: Baited, sql: str) -> None:
    before = file.state()
    assert before["locked"]
    sql = sql.replace("{bait}", str(file.bait)).replace("{results}", str(file.results))
    try:
        answer = str(file.ask(sql).to_pylist())
    except QueryError as error:
        answer = str(error)
        assert "\n" not in answer
    assert SECRET not in answer
    assert file.state() == before


@given(sql=any_sql())
def test_each_statement_reads_or_is_refused(file: Baited, sql: str) -> None:
    _reads_or_is_refused(file, sql)


@pytest.mark.long
@settings(max_examples=20_000)
@given(sql=any_sql())
def test_each_of_many_statements_reads_or_is_refused(file: Baited, sql: str) -> None:
    _reads_or_is_refused(file, sql)


@given(sql=st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_each_text_reads_or_is_refused(file: Baited, sql: str) -> None:
    _reads_or_is_refused(file, sql)


@given(sql=reading_sql())
def test_what_only_reads_is_never_refused_by_us(file: Baited, sql: str) -> None:
    assert not any(ours in file.refusal(sql) for ours in OURS)
