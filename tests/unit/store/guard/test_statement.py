"""The door for SQL from outside: what reads is answered, all else is refused before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.read_only import read_only_query
from tests.kit.bait import SECRET, Baited, baited
from tests.kit.sql_statements import READS, REFUSED


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Baited]:
    with baited(tmp_path_factory.mktemp("baited")) as made:
        yield made


@pytest.mark.parametrize("sql", READS)
def test_what_only_reads_is_answered(file: Baited, sql: str) -> None:
    file.ask(sql)


@pytest.mark.parametrize("sql", REFUSED)
def test_all_else_is_refused_in_one_line_and_nothing_is_touched(file: Baited, sql: str) -> None:
    before = file.state()
    with pytest.raises(QueryError) as caught:
        file.ask(sql.format(bait=file.bait, results=file.results))
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert before["locked"]
    assert file.state() == before


def test_a_file_that_nobody_writes_has_the_same_door(tmp_path: Path) -> None:
    with baited(tmp_path) as made:
        results, bait = made.results, made.bait
    before = results.read_bytes()
    for sql in REFUSED[::10]:  # each opens the file
        with pytest.raises(QueryError):
            read_only_query(results, sql.format(bait=bait, results=results))
    assert results.read_bytes() == before
    assert sorted(path.name for path in bait.iterdir()) == [
        f"bait.{end}" for end in ("csv", "db", "json", "parquet", "txt")
    ]


def test_a_name_that_stands_for_what_is_refused_stays_refused(file: Baited) -> None:
    for _ in range(2):
        with pytest.raises(
            QueryError, match=r"'read_text' is not for queries, or not known \(in 'bad_view' of the file\)"
        ):
            file.ask("FROM bad_view")


def test_a_statement_is_refused_that_is_too_long_or_too_deep(file: Baited) -> None:
    with pytest.raises(QueryError, match="characters"):
        file.ask(f"SELECT '{'x' * 300_000}'")
    with pytest.raises(QueryError, match="too many parts"):
        file.ask("VALUES (" + ",".join(["1"] * 130_000) + ")")
    with pytest.raises(QueryError, match="deep"):
        file.ask("SELECT " + " || ".join(["'a'"] * 900))
    assert file.ask("SELECT " + " || ".join(["'a'"] * 200)).num_rows == 1
    keys = ", ".join(f"'{number:032}'" for number in range(7_000))
    assert file.ask(f"SELECT key FROM results WHERE key IN ({keys})").num_rows == 0
