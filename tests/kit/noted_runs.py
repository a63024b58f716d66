"""Runs of a handler that were noted in a file (`{"do": "note", "file": ...}`), counted against the results file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

_RUNS = "read_csv(?, header = false, columns = {'began': 'DOUBLE', 'key': 'VARCHAR', 'attempt': 'INTEGER'})"

_COUNTS = """
WITH tries AS (SELECT key, attempt, min(began) AS began, count(*) AS runs FROM runs GROUP BY key, attempt),
     gaps AS (SELECT began, began - lag(began) OVER (ORDER BY began) AS gap FROM runs WHERE attempt = 0),
     retried AS (SELECT second.began - first.began AS waited
                 FROM tries AS first JOIN tries AS second ON first.key = second.key
                 WHERE first.attempt = 0 AND second.attempt = 1),
     kept AS (SELECT key, count(*) AS n FROM results.results GROUP BY key)
SELECT $expected - (SELECT count(*) FROM kept WHERE list_contains($keys, key)),
       (SELECT coalesce(sum(n - 1), 0)::INTEGER FROM kept),
       (SELECT coalesce(sum(runs - 1), 0)::INTEGER FROM tries),
       (SELECT count(*) FROM retried WHERE waited < $delay_s),
       (SELECT count(*) FROM retried),
       (SELECT coalesce(max(gap), 0) FROM gaps WHERE began >= $since),
       (SELECT coalesce(max(waited), 0) - $delay_s FROM retried),
       (SELECT count(*) FROM results.dead_letters)
"""


@dataclass(frozen=True, slots=True)
class Tally:
    """`lost`: keys without a row; `doubled`: rows beyond one for each key; `again`: runs beyond one for each key and
    attempt; `early`: of the `retried` ones, second tries before their delay; `stall_s`: the longest time without a
    first try since the fault; `late_s`: how much later than its delay the latest second try came; `dead`: dead letters.
    """

    lost: int
    doubled: int
    again: int
    early: int
    retried: int
    stall_s: float
    late_s: float
    dead: int


def keys_run(file: Path) -> set[str]:
    """Jobs that have begun at least once so far."""
    return {line.split(",")[1] for line in file.read_text().splitlines()} if file.exists() else set()


def tally(file: Path, results: Path, keys: list[str], *, delay_s: float, since: float) -> Tally:
    """Of a pool that has ended; `since`: Unix time of the fault."""
    with duckdb.connect() as con:
        con.execute(f"ATTACH '{results}' AS results (READ_ONLY)")
        con.execute(f"CREATE TABLE runs AS FROM {_RUNS}", [str(file)])
        values = {"expected": len(keys), "keys": keys, "delay_s": delay_s, "since": since}
        row = con.execute(_COUNTS, values).fetchone()
    assert row is not None
    return Tally(*row)
