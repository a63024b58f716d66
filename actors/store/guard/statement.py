"""The door for SQL from outside: every statement that somebody may word goes through `allowed_text`.

READ ONLY transactions and `enable_external_access=false` are not enough: DuckDB lets EXPLAIN ANALYZE and COPY through
them, and allows the database's own file, its log and its temp folder to whatever opens files. What a statement takes of
time and memory, and whether it ends the process, is not looked at here: it runs in one of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import duckdb

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.guard.catalog import Catalog, fold
from rabbitray.actors.store.guard.functions import FUNCTIONS, TABLE_FUNCTIONS
from rabbitray.actors.store.guard.parsing import ALLOWED, parse, serialized
from rabbitray.actors.store.guard.tree import Names, is_plain, names_in

Connection = duckdb.DuckDBPyConnection


def allowed_text(con: Connection, sql: str, catalog: Callable[[], Catalog]) -> str:
    """The text to run for one statement that only reads; raises QueryError (one line) or duckdb.Error for any other.

    `con` is not changed; `catalog` is asked for what the file holds, where the statement names something of it.
    """
    parsed = parse(con, sql)
    _check(con, parsed.tree, catalog)
    return parsed.text


def _check(con: Connection, tree: str, catalog: Callable[[], Catalog]) -> None:
    """Raises QueryError unless the SELECT, and each SELECT behind a name in it, only reads."""
    waiting = [(tree, "")]
    behind: set[str] = set()
    while waiting:
        text, place = waiting.pop()
        try:
            names = names_in(_loaded(text))
            bodies = [*_of_relations(names, catalog), *_of_calls(names, catalog)]
        except QueryError as error:
            raise QueryError(f"{error}{place}") from error
        new = [(name, body) for name, body in bodies if body not in behind and body not in catalog().passed]
        waiting.extend((serialized(con, body), f" (in {name!r} of the file)") for name, body in new)
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


def _loaded(text: str) -> object:
    """The parse tree of one SELECT; raises QueryError for any other text."""
    try:
        parsed = json.loads(text)
    except RecursionError:
        raise QueryError("the statement is nested too deeply") from None
    if parsed.get("error") is not False or len(parsed["statements"]) != 1:
        raise QueryError(f"{ALLOWED}: {' '.join(str(parsed.get('error_message', 'this is none')).split())}")
    return parsed["statements"][0]
