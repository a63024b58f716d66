"""The tables, views and macros of an open file, with the SQL that stands behind their names.

Nothing of it changes while the file is open: the store makes no view and no macro, and nobody else writes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb

from rabbitray.actors.store.guard.tree import Path

_TABLES = "SELECT database_name, schema_name, table_name FROM duckdb_tables()"
_VIEWS = "SELECT database_name, schema_name, view_name, sql FROM duckdb_views()"
_GENERATED = """SELECT database_name, schema_name, table_name, generation_expression FROM duckdb_columns()
WHERE NOT internal AND generation_expression IS NOT NULL"""
_MACROS = (
    "SELECT schema_name, function_name, function_type, macro_definition FROM duckdb_functions() WHERE NOT internal"
)


@dataclass(slots=True, kw_only=True)
class Relation:
    """One table or view. `bodies`: SELECTs that reading it runs."""

    database: str
    schema: str
    bodies: list[str] = field(default_factory=list)

    def is_at(self, qualifiers: Path) -> bool:
        """Whether these (nothing, a schema or a database, or both), folded, lead to it."""
        database, schema = fold(self.database), fold(self.schema)
        short = schema == "main" and qualifiers in ((), (database,))
        return short or qualifiers in ((schema,), (database, schema))


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """By name, folded. `macros` as (schema, body). `passed`: bodies that were looked at and found to read only."""

    relations: Mapping[str, Sequence[Relation]]
    macros: Mapping[str, Sequence[tuple[str, str]]]
    passed: set[str] = field(default_factory=set)

    def at(self, path: Path) -> list[Relation]:
        """The tables and views that a name may mean; none where it is the name of a WITH, or of a file."""
        *qualifiers, name = map(fold, path)
        return [found for found in self.relations.get(name, ()) if found.is_at(tuple(qualifiers))]

    def bodies_of_call(self, path: Path) -> list[str]:
        """What a call may run, of the macros of its name: any, where something qualifies it, which may also be a column
        (`key.lower()`).
        """
        named = self.macros.get(fold(path[-1]), ())
        return [body for schema, body in named if len(path) > 1 or fold(schema) == "main"]


def fold(name: str) -> str:
    """The form in which DuckDB compares names: ASCII letters in lower case."""
    return name.encode(errors="surrogatepass").lower().decode(errors="surrogatepass")


def read_catalog(con: duckdb.DuckDBPyConnection) -> Catalog:
    """What an open file holds now; about 20 ms."""
    relations: dict[str, list[Relation]] = defaultdict(list)
    for database, schema, name in con.execute(_TABLES).fetchall():
        relations[fold(name)].append(Relation(database=database, schema=schema))
    for database, schema, name, sql in con.execute(_VIEWS).fetchall():
        relations[fold(name)].append(Relation(database=database, schema=schema, bodies=[_after_as(sql or "")]))
    for database, schema, name, expression in con.execute(_GENERATED).fetchall():
        for relation in relations[fold(name)]:
            if (relation.database, relation.schema) == (database, schema):
                relation.bodies.append(f"SELECT {expression}")
    macros: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for schema, name, kind, definition in con.execute(_MACROS).fetchall():
        macros[fold(name)].append((schema, definition if kind == "table_macro" else f"SELECT {definition}"))
    return Catalog(relations=dict(relations), macros=dict(macros))


def _after_as(sql: str) -> str:
    """The SELECT of a CREATE VIEW as DuckDB writes it: after the first AS, which is no name without quotes. For a text
    that has none, an empty one, which is refused where it is read.
    """
    text = sql.encode()
    for offset, _ in duckdb.tokenize(sql):
        if text[offset : offset + 3].upper() in (b"AS ", b"AS("):
            return text[offset + 2 :].decode()
    return ""
