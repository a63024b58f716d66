"""What a parse tree of DuckDB (`json_serialize_sql`) may hold, and what it names. Pure.

An allow list: a kind of node that is not here is refused, also one of a later DuckDB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from rabbitray.actors.errors import QueryError

T = TypeVar("T")

Path = tuple[str, ...]
"""A name with what qualifies it before it: (table,), (schema, table), (database, schema, table)."""

_EXPRESSIONS = """
BETWEEN CASE CAST COLLATE COLUMN_REF COMPARISON CONJUNCTION CONSTANT DEFAULT FUNCTION LAMBDA LAMBDA_REF OPERATOR
PARAMETER POSITIONAL_REFERENCE STAR SUBQUERY TYPE WINDOW
"""
_NODES = """
SELECT_NODE SET_OPERATION_NODE RECURSIVE_CTE_NODE CTE_NODE
BASE_TABLE SUBQUERY JOIN TABLE_FUNCTION EXPRESSION_LIST EMPTY PIVOT SHOW_REF
LIMIT_MODIFIER LIMIT_PERCENT_MODIFIER ORDER_MODIFIER DISTINCT_MODIFIER
ORDER_DEFAULT ASCENDING DESCENDING
"""
_KNOWN_CLASSES, _KNOWN_TYPES = frozenset(_EXPRESSIONS.split()), frozenset(_NODES.split())
_SHOWN = frozenset({"DESCRIBE", "SUMMARY", "SHOW", "SHOW_FROM", "SHOW_SPECIAL", "SHOW_UNQUALIFIED"})


@dataclass(frozen=True, slots=True)
class Names:
    """What a statement names. `relations` may be tables, views or WITHs, or files, which only the catalog tells."""

    relations: set[Path] = field(default_factory=set)
    functions: set[Path] = field(default_factory=set)
    table_functions: set[Path] = field(default_factory=set)


def names_in(tree: object) -> Names:
    """What the statement of this tree names. Raises QueryError for a node that only reading does not need."""
    names = Names()
    waiting = [tree]
    while waiting:  # not by recursion: a tree is as deep as its writer likes
        node = waiting.pop()
        if isinstance(node, Mapping):
            waiting.extend(_inside(node, names))
        elif isinstance(node, list):
            waiting.extend(node)
    return names


def is_plain(name: str) -> bool:
    """Whether a name can be none of a file: without a dot and a slash, DuckDB looks for no reader of it."""
    return all(sign.isalnum() or sign in "_ -$" for sign in name)


def _inside(node: Mapping[str, object], names: Names) -> Iterator[object]:
    """Notes what the node itself names; what is left to look at in it."""
    kind = _kind(node)
    if kind == "TABLE_FUNCTION":
        called = _expected(node.get("function"), dict)
        names.table_functions.add(_called(called))
        yield from called.values()
        yield from (value for name, value in node.items() if name != "function")
        return
    if kind in ("FUNCTION", "WINDOW"):
        names.functions.add(_called(node))
    elif kind == "BASE_TABLE":
        names.relations.add(_path(node))
    elif kind == "SHOW_REF":
        _note_shown(node, names)
    elif kind != "TYPE" and node.keys() & {"qualified_name", "function_name", "table_name"}:
        raise _refusal(kind or "a nameless node")
    _check_withs(node.get("cte_map"))
    yield from node.values()


def _kind(node: Mapping[str, object]) -> str:
    """The class of an expression, the type of any other node, "" for what is part of one. Raises QueryError."""
    if "class" in node:
        kind, known = node["class"], _KNOWN_CLASSES
    else:
        kind, known = node.get("type", ""), _KNOWN_TYPES
    if not isinstance(kind, str):  # the type of a constant
        return ""
    if kind and kind not in known and not kind.endswith("_TYPE_INFO"):
        raise _refusal(kind)
    return kind


def _note_shown(node: Mapping[str, object], names: Names) -> None:
    shown = node.get("show_type")
    if shown not in _SHOWN:
        raise _refusal(f"SHOW {shown}")
    if shown not in ("SHOW_SPECIAL", "SHOW_FROM") and _expected(node["qualified_name"], dict).get("path"):
        names.relations.add(_path(node))


def _check_withs(map_of: object) -> None:
    """A WITH whose name could be a file's would hide in `names` that the file is meant elsewhere."""
    if not isinstance(map_of, Mapping):
        return
    for entry in _expected(map_of.get("map", []), list):
        name = _expected(_expected(entry, dict)["key"], str)
        if not is_plain(name):
            raise QueryError(f"give the WITH {name!r} a name of letters and digits")


def _called(node: Mapping[str, object]) -> Path:
    path = _path(node)
    if node.get("class") not in ("FUNCTION", "WINDOW") or node.get("function_name") != path[-1]:
        raise _refusal("a call without a name")
    return path


def _path(node: Mapping[str, object]) -> Path:
    parts = _expected(_expected(node.get("qualified_name"), dict).get("path"), list)
    return tuple(_expected(part, str) for part in parts) or ("",)


def _expected(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise QueryError(f"DuckDB parsed it into a form that is not known here ({type(value).__name__})")
    return value


def _refusal(kind: str) -> QueryError:
    return QueryError(f"a statement may only read: {kind} is refused")
