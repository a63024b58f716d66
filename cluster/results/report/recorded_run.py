"""SQL over a results file -> RecordedRun: all that the report shows, as small values. Sums are made by DuckDB."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from rabbitray.cluster.results.arrival import DEAD_LETTER_ARRIVED, RESULT_ARRIVED
from rabbitray.cluster.results.message_story import TRACED_SINCE
from rabbitray.cluster.results.report.axes import time_step

Row = Mapping[str, Any]  # Any: a value of a row
Ask = Callable[[str], Sequence[Row]]
"""Answers one SELECT, wherever the file is: opened here, or held by a running pool."""

BUCKETS_MOST = 150
DECISIONS_MOST = 2_000
SLOWEST = 20
DEAD_SHOWN = 50
CONFLICTS_SHOWN = 20

_LATENCY = f"((epoch_us(committed_at) - epoch_us({RESULT_ARRIVED})) / 1000.0)"
_HANDLER = "((epoch_us(finished_at) - epoch_us(started_at)) / 1000.0)"
_QUANTILES = "[0.5, 0.95, 0.99]"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedDecision:
    """One record of the autoscaler. `at`: Unix seconds; depth is None where the broker gave no answer."""

    at: float
    event: str  # decided, in_effect, still
    kind: str
    had: int
    wanted: int
    reason: str
    backlog: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values for each bucket of `width_s` from `start` (Unix seconds); durations in ms, None where nothing was."""

    start: float
    width_s: float
    published: tuple[int, ...]
    done: tuple[int, ...]
    dead: tuple[int, ...]
    backlog: tuple[int, ...]  # at the end of each bucket
    p50_ms: tuple[float | None, ...]
    p95_ms: tuple[float | None, ...]

    @property
    def span_s(self) -> float:
        """The length of the time shown."""
        return self.width_s * len(self.done)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A distribution of durations. `counts`: tenths of a decade -> jobs, so 20 means 100 to 126 ms."""

    counts: Mapping[int, int]
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRun:
    """What a results file says about the work that it records. Rows of the tables are as DuckDB returned them."""

    source: str
    queues: tuple[str, ...]
    pools: tuple[str, ...]
    routers: int
    begin: float | None  # Unix seconds; None: nothing was worked and nothing decided
    end: float | None
    done: int
    dead: int  # dead letters; a message may have left several
    dead_messages: int  # messages that ended so: each once, and none that was replayed and is done
    retried: int  # done jobs that needed more than one run
    workers: int  # distinct workers that finished a job
    conflicts: int  # distinct keys under which another message came once they had a result
    series: Series | None
    decisions: tuple[RecordedDecision, ...]
    latency: Spread
    handler: Spread
    attempts: tuple[Row, ...]
    errors: tuple[Row, ...]
    types: tuple[Row, ...]
    slowest: tuple[Row, ...]
    dead_letters: tuple[Row, ...]
    conflicting: tuple[Row, ...]

    def summary(self) -> dict[str, object]:
        """The figures of the page's head, as JSON values."""
        active_s = self.series.width_s * sum(map(bool, self.series.done)) if self.series else 0.0
        return {
            "done": self.done,
            "dead": self.dead,
            "dead_messages": self.dead_messages,
            "retried": self.retried,
            "workers": self.workers,
            "conflicts": self.conflicts,
            "decisions": sum(decision.event == "decided" for decision in self.decisions),
            "throughput_msg_s": round(self.done / active_s, 1) if active_s else 0.0,
            "latency_ms": {"p50": self.latency.p50_ms, "p95": self.latency.p95_ms, "p99": self.latency.p99_ms},
            "handler_ms": {"p50": self.handler.p50_ms, "p95": self.handler.p95_ms, "p99": self.handler.p99_ms},
        }


def read_run(ask: Ask, source: str, *, since: datetime | None = None) -> RecordedRun:
    """Reads what was worked, decided and parked from `since` (aware) on; raises what `ask` raises."""
    done, dead, decided = (_from(column, since) for column in ("committed_at", "dead_at", "decided_at"))
    [totals] = ask(_totals(done, dead, decided))
    conflicts, conflicting = _conflicts(ask, since)
    begin, end = totals["began"], totals["ended"]
    series = _series(ask, begin, end, done, dead) if begin is not None else None
    return RecordedRun(
        source=source,
        queues=tuple(totals["queues"] or ()),
        pools=tuple(row["pool"] for row in ask(f"SELECT DISTINCT pool FROM decisions WHERE {decided} ORDER BY 1")),
        routers=totals["routers"],
        begin=begin,
        end=end,
        done=totals["done"],
        dead=totals["dead"],
        dead_messages=ask(_dead_messages(done, dead))[0]["n"] if totals["dead"] else 0,
        retried=totals["retried"],
        workers=totals["workers"],
        conflicts=conflicts,
        series=series,
        decisions=tuple(_decision(row) for row in ask(_decisions(decided))),
        latency=_spread(ask, _LATENCY, done),
        handler=_spread(ask, _HANDLER, done),
        attempts=tuple(
            ask(f"SELECT attempts, count(*) AS jobs FROM results WHERE {done} GROUP BY 1 ORDER BY 1 LIMIT 20")
        ),
        errors=tuple(ask(_errors(dead))),
        types=tuple(ask(_types(done))),
        slowest=tuple(ask(_slowest(done))),
        dead_letters=tuple(ask(_dead_letters(dead, traced=_version(ask) >= TRACED_SINCE))),
        conflicting=conflicting,
    )


def _from(column: str, since: datetime | None) -> str:
    return f"{column} >= TIMESTAMPTZ '{since.isoformat()}'" if since else f"{column} IS NOT NULL"


def _version(ask: Ask) -> int:
    [store] = ask("SELECT schema_version FROM store")
    version: int = store["schema_version"]
    return version


def _conflicts(ask: Ask, since: datetime | None) -> tuple[int, tuple[Row, ...]]:
    """How many keys had one, and the newest of them. A file of schema version 1 has no table of them.

    Keys are sorted, not hashed: somebody chose them.
    """
    if _version(ask) < 2:
        return 0, ()
    where = _from("recorded_at", since)
    keys = f"SELECT queue, key, lag((queue, key)) OVER (ORDER BY queue, key) AS before FROM conflicts WHERE {where}"
    [total] = ask(f"SELECT count(*) AS n FROM ({keys}) WHERE (queue, key) IS DISTINCT FROM before")
    return total["n"], tuple(
        ask(f"""
    SELECT epoch_us(recorded_at) / 1e6 AS at_s, key, message_type, user_id, message_id, worker, trace_id
    FROM conflicts WHERE {where} ORDER BY recorded_at DESC LIMIT {CONFLICTS_SHOWN}""")
    )


def _totals(done: str, dead: str, decided: str) -> str:
    return f"""
    WITH d AS (SELECT count(*) AS n, count(*) FILTER (attempts > 1) AS retried, count(DISTINCT worker) AS workers,
                 min(epoch_us(coalesce(received_at, committed_at))) AS began, max(epoch_us(committed_at)) AS ended,
                 list_sort(list(DISTINCT queue)) AS queues FROM results WHERE {done}),
         x AS (SELECT count(*) AS n, min(epoch_us(dead_at)) AS began, max(epoch_us(dead_at)) AS ended
                 FROM dead_letters WHERE {dead}),
         a AS (SELECT min(epoch_us(decided_at)) AS began, max(epoch_us(decided_at)) AS ended
                 FROM decisions WHERE {decided})
    SELECT d.n AS done, d.retried, d.workers, d.queues, x.n AS dead, (SELECT count(*) FROM runs) AS routers,
           least(d.began, x.began, a.began) / 1e6 AS began, greatest(d.ended, x.ended, a.ended) / 1e6 AS ended
    FROM d, x, a"""


def _dead_messages(done: str, dead: str) -> str:
    """Of keys only their digests are joined: somebody chose the keys, perhaps so that their hashes are alike."""
    return f"""
    WITH d AS (SELECT DISTINCT queue, sha256(coalesce(key, message_id, id)) AS name FROM dead_letters WHERE {dead}),
         r AS (SELECT queue, sha256(key) AS name FROM results WHERE {done} AND key IS NOT NULL)
    SELECT count(*) AS n FROM d ANTI JOIN r USING (queue, name)"""


def _decisions(decided: str) -> str:
    """The newest ones, oldest first."""
    return f"""
    SELECT * FROM (
      SELECT epoch_us(decided_at) / 1e6 AS at_s, current, wanted, reason, inputs::VARCHAR AS inputs
      FROM decisions WHERE {decided} ORDER BY decided_at DESC LIMIT {DECISIONS_MOST}) ORDER BY at_s"""


def _decision(row: Row) -> RecordedDecision:
    """`inputs` is the whole record of the autoscaler's journal; a row of another writer may lack any of it."""
    record = msgspec.json.decode(row["inputs"] or "{}")
    record = record if isinstance(record, dict) else {}
    seen = record.get("inputs")
    seen = seen if isinstance(seen, dict) else {}
    ready, held = seen.get("ready"), seen.get("held")
    return RecordedDecision(
        at=row["at_s"],
        event=str(record.get("event", "decided")),
        kind=str(record.get("kind", "")),
        had=_int(record.get("had"), row["current"] or 0),
        wanted=row["wanted"] or 0,
        reason=row["reason"] or "",
        backlog=None if ready is None else _int(ready, 0) + _int(held, 0),
    )


def _int(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise


def _series(ask: Ask, begin: float, end: float, done: str, dead: str) -> Series:
    width_s = time_step(max(end - begin, 1.0), BUCKETS_MOST)
    start = begin // width_s * width_s
    count = int((end - start) // width_s) + 1
    rows = ask(_buckets(start, width_s, count, done, dead))
    by_bucket = {row["bucket"]: row for row in rows}

    def column(name: str) -> tuple[int, ...]:
        return tuple((by_bucket[bucket][name] if bucket in by_bucket else None) or 0 for bucket in range(count))

    def quantile(name: str) -> tuple[float | None, ...]:
        return tuple(by_bucket[bucket][name] if bucket in by_bucket else None for bucket in range(count))

    published, finished, parked = column("published"), column("done"), column("dead")
    backlog, left = [], 0
    for index in range(count):
        left += published[index] - finished[index] - parked[index]
        backlog.append(max(0, left))
    return Series(
        start=start,
        width_s=width_s,
        published=published,
        done=finished,
        dead=parked,
        backlog=tuple(backlog),
        p50_ms=quantile("p50"),
        p95_ms=quantile("p95"),
    )


def _buckets(start: float, width_s: float, count: int, done: str, dead: str) -> str:
    """What was published before the time shown counts in its first bucket: it was waiting there."""

    def bucket(moment: str) -> str:
        return f"least({count - 1}, greatest(0, floor((epoch_us({moment}) / 1e6 - {start!r}) / {width_s!r})))::INTEGER"

    return f"""
    WITH p AS (SELECT {bucket(RESULT_ARRIVED)} AS b FROM results WHERE {done}
               UNION ALL SELECT {bucket(DEAD_LETTER_ARRIVED)} FROM dead_letters WHERE {dead}),
         published AS (SELECT b, count(*) AS published FROM p GROUP BY b),
         done AS (SELECT {bucket("committed_at")} AS b, count(*) AS done,
                    quantile_cont({_LATENCY}, [0.5, 0.95]) AS q FROM results WHERE {done} GROUP BY 1),
         dead AS (SELECT {bucket("dead_at")} AS b, count(*) AS dead FROM dead_letters WHERE {dead} GROUP BY 1)
    SELECT b AS bucket, published, done, dead, q[1] AS p50, q[2] AS p95
    FROM published FULL JOIN done USING (b) FULL JOIN dead USING (b) ORDER BY b"""


def _spread(ask: Ask, milliseconds: str, done: str) -> Spread:
    source = f"(SELECT greatest({milliseconds}, 0.1) AS ms FROM results WHERE {done})"
    counts = ask(
        f"SELECT floor(log10(ms) * 10)::INTEGER AS tenth, count(*) AS jobs FROM {source} WHERE ms IS NOT NULL "
        "GROUP BY 1 ORDER BY 1"
    )
    [row] = ask(f"SELECT quantile_cont(ms, {_QUANTILES}) AS q FROM {source}")
    p50, p95, p99 = (round(value, 2) for value in row["q"]) if row["q"] else (None, None, None)
    return Spread(counts={row["tenth"]: row["jobs"] for row in counts}, p50_ms=p50, p95_ms=p95, p99_ms=p99)


def _errors(dead: str) -> str:
    return f"""
    SELECT coalesce(error_class, reason, 'unknown') AS error_class, any_value(category) AS category,
           list_sort(list(DISTINCT reason)) AS reasons, count(*) AS jobs, arg_max(error, dead_at) AS latest
    FROM dead_letters WHERE {dead} GROUP BY 1 ORDER BY jobs DESC, 1 LIMIT 20"""


def _types(done: str) -> str:
    return f"""
    SELECT coalesce(message_type, '(none)') AS message_type, count(*) AS jobs, avg(attempts) AS attempts,
           quantile_cont({_HANDLER}, 0.5) AS p50, quantile_cont({_HANDLER}, 0.95) AS p95
    FROM results WHERE {done} GROUP BY 1 ORDER BY jobs DESC LIMIT 20"""


def _slowest(done: str) -> str:
    return f"""
    SELECT key, message_type, user_id, {_HANDLER} AS handler_ms, {_LATENCY} AS latency_ms, attempts, worker, trace_id
    FROM results WHERE {done} AND started_at IS NOT NULL ORDER BY handler_ms DESC LIMIT {SLOWEST}"""


def _dead_letters(dead: str, *, traced: bool) -> str:
    """`traced`: the file has tracebacks."""
    where = "traceback, raised_in" if traced else "NULL AS traceback, NULL AS raised_in"
    return f"""
    SELECT epoch_us(dead_at) / 1e6 AS at_s, key, message_type, reason, error_class, error, attempts, worker, trace_id,
           octet_length(body) AS bytes, {where}
    FROM dead_letters WHERE {dead} ORDER BY dead_at DESC LIMIT {DEAD_SHOWN}"""
