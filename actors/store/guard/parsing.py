"""One statement -> what DuckDB parsed: its kind, the text to run, the tree of its SELECT. Nothing of it is run here."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from rabbitray.actors.errors import QueryError

SQL_LENGTH = 256 * 1024
"""Characters of one statement at most: DuckDB's parser takes up to 1 KB of memory for each."""

TREE_LENGTH = 16 * 1024 * 1024
"""Of the parse tree as JSON at most, which Python takes four times the memory for."""

ALLOWED = "only SELECT, VALUES, WITH, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN of one of these may be asked"

_SERIALIZED = "SELECT json_serialize_sql($1::VARCHAR, skip_null := true, skip_empty := true, skip_default := true)"
_FORMS = frozenset({"text", "json", "html", "graphviz", "yaml", "mermaid"})
_WORDS_BEFORE = 9  # what may be explained begins among these: EXPLAIN ( ANALYZE , FORMAT json ) SELECT

Connection = duckdb.DuckDBPyConnection


@dataclass(frozen=True, slots=True)
class Parsed:
    """`text`: to run, once the SELECT of it, whose tree is `tree` (JSON), was found to read only."""

    text: str
    tree: str


def parse(con: Connection, sql: str) -> Parsed:
    """Raises QueryError (one line) or duckdb.Error for what is not one SELECT, or an EXPLAIN of one."""
    require_short(sql)
    try:
        sql.encode()
    except UnicodeEncodeError:
        raise QueryError("a statement must be Unicode text, without halves of surrogate pairs") from None
    statements = con.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError(f"one statement at a time: this is {len(statements)}")
    kind = _kind(statements[0])
    if kind == duckdb.StatementType.EXPLAIN:
        options, explained = _explained(con, sql)  # made anew: what is checked is what is explained
        return Parsed(f"EXPLAIN ({options})\n{explained}", serialized(con, explained))
    if kind == duckdb.StatementType.MULTI:
        raise QueryError("name the values of a PIVOT: PIVOT ... ON column IN (...)")
    if kind != duckdb.StatementType.SELECT:
        raise QueryError(f"{ALLOWED}, not {kind.name}")
    return Parsed(sql, serialized(con, sql))


def require_short(sql: str) -> None:
    """Raises QueryError for a statement that is too long."""
    if len(sql) > SQL_LENGTH:
        raise QueryError(f"a statement may have {SQL_LENGTH:,} characters, this one has {len(sql):,}")


def _kind(statement: duckdb.Statement) -> duckdb.StatementType:
    """Raises QueryError for a kind that DuckDB parses and its Python package has no name for (UPDATE EXTENSIONS)."""
    try:
        return statement.type
    except ValueError:
        raise QueryError(f"{ALLOWED}, not this") from None


def serialized(con: Connection, sql: str) -> str:
    """The parse tree of a SELECT as JSON, or of DuckDB's error; raises QueryError for one that is too large."""
    [[text]] = con.execute(_SERIALIZED, [sql]).fetchall()
    if len(text) > TREE_LENGTH:
        raise QueryError("the statement has too many parts: hand its values over in fewer, or ask more than once")
    return str(text)


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
    raise QueryError(f"{ALLOWED}, and EXPLAIN of these alone")


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
    raise QueryError(f"{ALLOWED}, with ANALYZE and FORMAT at most")
