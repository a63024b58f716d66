"""The door for SQL from outside: every statement that somebody may word goes through `allowed_text`.

READ ONLY transactions and `enable_external_access=false` are not enough: DuckDB lets EXPLAIN ANALYZE and COPY through
them, and allows the database's own file, its log and its temp folder to whatever opens files. And in the process that
writes, opening and closing that file is enough to lose its lock.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import duckdb

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.guard.catalog import Catalog, fold
from rabbitray.actors.store.guard.functions import FUNCTIONS, TABLE_FUNCTIONS
from rabbitray.actors.store.guard.tree import Names, is_plain, names_in

SQL_BYTES = 8 * 1024 * 1024
"""Of one statement at most: checking takes a tenth of a second for each MB."""

_SERIALIZED = "SELECT json_serialize_sql($1::VARCHAR, skip_null := true, skip_empty := true, skip_default := true)"
_FORMS = frozenset({"text", "json", "html", "graphviz", "yaml", "mermaid"})
_WORDS_BEFORE = 9  # what may be explained begins among these: EXPLAIN ( ANALYZE , FORMAT json ) SELECT
_ALLOWED = "only SELECT, VALUES, WITH, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN of one of these may be asked"

Connection = duckdb.DuckDBPyConnection


def allowed_text(con: Connection, sql: str, catalog: Callable[[], Catalog]) -> str:
    """The text to run for one statement that only reads; raises QueryError (one line) or duckdb.Error for any other.

    `con` is not changed; `catalog` is asked for what the file holds, where the statement names something of it.
    """
    if len(sql) > SQL_BYTES:
        raise QueryError(f"a statement may have {SQL_BYTES:,} characters, this one has {len(sql):,}")
    statements = con.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError(f"one statement at a time: this is {len(statements)}")
    kind = _kind(statements[0])
    if kind == duckdb.StatementType.EXPLAIN:
        options, explained = _explained(con, sql)
        _check(con, explained, catalog)
        return f"EXPLAIN ({options})\n{explained}"  # made anew: what was checked is what is explained
    if kind == duckdb.StatementType.MULTI:
        raise QueryError("name the values of a PIVOT: PIVOT ... ON column IN (...)")
    if kind != duckdb.StatementType.SELECT:
        raise QueryError(f"{_ALLOWED}, not {kind.name}")
    _check(con, sql, catalog)
    return sql


def _kind(statement: duckdb.Statement) -> duckdb.StatementType:
    """Raises QueryError for a kind that DuckDB parses and its Python package has no name for (UPDATE EXTENSIONS)."""
    try:
        return statement.type
    except ValueError:
        raise QueryError(f"{_ALLOWED}, not this") from None


def _check(con: Connection, sql: str, catalog: Callable[[], Catalog]) -> None:
    """Raises QueryError unless the SELECT, and each SELECT behind a name in it, only reads."""
    waiting = [(sql, "")]
    behind: set[str] = set()
    while waiting:
        text, place = waiting.pop()
        try:
            names = names_in(_tree(con, text))
            bodies = [*_of_relations(names, catalog), *_of_calls(names, catalog)]
        except QueryError as error:
            raise QueryError(f"{error}{place}") from error
        new = [(name, body) for name, body in bodies if body not in behind and body not in catalog().passed]
        waiting.extend((body, f" (in {name!r} of the file)") for name, body in new)
        behind.update(body for _, body in new)
    if behind:
        catalog().passed.update(behind)


def _of_relations(names: Names, catalog: Callable[[], Catalog]) -> list[tuple[str, str]]:
    """What stands behind the tables and views, as (name, SELECT). Raises QueryError for what may be a file."""
    bodies = []
    for path in names.relations:
        found = catalog().at(path)
        if not found and not (len(path) == 1 and is_plain(path[0])):
            raise QueryError(f"only tables of the results file can be read, and {'.'.join(path)!r} is none")
        bodies += [(path[-1], body) for relation in found for body in relation.bodies]
    return bodies


def _of_calls(names: Names, catalog: Callable[[], Catalog]) -> list[tuple[str, str]]:
    """What stands behind the macros, as (name, SELECT). Raises QueryError for a function that is not allowed."""
    calls = [(path, FUNCTIONS) for path in names.functions] + [
        (path, TABLE_FUNCTIONS) for path in names.table_functions
    ]
    bodies = []
    for path, allowed in calls:
        behind = catalog().bodies_of_call(path)
        if not behind and fold(path[-1]) not in allowed:
            raise QueryError(f"the function {path[-1]!r} is not for queries, or not known")
        bodies += [(path[-1], body) for body in behind]
    return bodies


def _tree(con: Connection, sql: str) -> object:
    """The parse tree of one SELECT; raises QueryError for any other text."""
    [[text]] = con.execute(_SERIALIZED, [sql]).fetchall()
    try:
        parsed = json.loads(text)
    except RecursionError:
        raise QueryError("the statement is nested too deeply") from None
    if parsed.get("error") is not False or len(parsed["statements"]) != 1:
        raise QueryError(f"{_ALLOWED}: {' '.join(str(parsed.get('error_message', 'this is none')).split())}")
    return parsed["statements"][0]


def _explained(con: Connection, sql: str) -> tuple[str, str]:
    """The options of an EXPLAIN, made anew from the words before it, and the SELECT that it explains: the first of the
    texts that begin at one of its words and are a SELECT by themselves.
    """
    text = sql.encode()
    tokens = [(at, kind) for at, kind in duckdb.tokenize(sql) if kind != duckdb.token_type.comment]
    ends = [at for at, _ in tokens[1:]] + [len(text)]
    words: list[str] = []
    for (begin, _), end in zip(tokens[:_WORDS_BEFORE], ends, strict=False):
        if words and _is_select(con, explained := text[begin:].decode()):
            return _options(words), explained
        words.append(text[begin:end].split(b"--")[0].split(b"/*")[0].strip().strip(b"'\"").lower().decode())
    raise QueryError(f"{_ALLOWED}, and EXPLAIN of these alone")


def _is_select(con: Connection, sql: str) -> bool:
    try:
        return [found.type for found in con.extract_statements(sql)] == [duckdb.StatementType.SELECT]
    except duckdb.Error:
        return False


def _options(words: list[str]) -> str:
    """The options of an EXPLAIN whose words before the SELECT these are, e.g. ["explain", "analyze"]."""
    given = [word for word in words[1:] if word not in ("(", ")", ",")]
    match given:
        case []:
            return "FORMAT text"
        case ["analyze"]:
            return "ANALYZE"
        case ["format", form] if form in _FORMS:
            return f"FORMAT {form}"
        case ["analyze", "format", form] | ["format", form, "analyze"] if form in _FORMS:
            return f"ANALYZE, FORMAT {form}"
    raise QueryError(f"{_ALLOWED}, with ANALYZE and FORMAT at most")
