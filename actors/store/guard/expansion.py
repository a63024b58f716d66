"""How many tables a statement looks at once each WITH is put in the place of its name. Pure.

DuckDB plans each of them before it looks at its memory limit, a deadline or an interrupt: 26 WITHs, each of which names
the one before twice, are 67 million.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.guard.catalog import fold

MOST_TABLES = 4_096


def require_few_tables(tree: object) -> None:
    """Raises QueryError where the statement of this parse tree looks at more than MOST_TABLES."""
    named, withs = _named_in(tree)
    try:
        many = _expanded(named, withs, {}) > MOST_TABLES
    except RecursionError:
        raise QueryError("too many WITHs stand behind each other") from None
    if many:
        raise QueryError(f"the statement looks at more than {MOST_TABLES:,} tables, counted behind each WITH's name")


def _named_in(tree: object) -> tuple[Counter[str], dict[str, list[Counter[str]]]]:
    """How often the statement itself names each table, and the same for each WITH; one name may have several."""
    named, withs = Counter[str](), defaultdict[str, list[Counter[str]]](list)
    waiting: list[tuple[object, Counter[str]]] = [(tree, named)]
    while waiting:  # not by recursion: a tree is as deep as its writer likes
        node, within = waiting.pop()
        if isinstance(node, list):
            waiting += [(each, within) for each in node]
        elif isinstance(node, Mapping):
            if node.get("type") == "BASE_TABLE":
                within[fold(str(node.get("table_name")))] += 1
            for key, value in node.items():
                if key == "cte_map" and isinstance(value, Mapping):
                    for entry in value.get("map", []):
                        body = Counter[str]()
                        withs[fold(entry["key"])].append(body)
                        waiting.append((entry["value"], body))
                else:
                    waiting.append((value, within))
    return named, withs


def _expanded(named: Counter[str], withs: Mapping[str, list[Counter[str]]], known: dict[str, int]) -> int:
    """Tables behind these names. `known`: the sizes of WITHs; one that is being counted, and names itself, is one."""
    tables = 0
    for name, times in named.items():
        if name not in known:
            known[name] = 1
            for body in withs.get(name, ()):
                known[name] = max(known[name], _expanded(body, withs, known))
        tables += times * known[name]
    return tables
