"""One message's story out of the results, the dead letters and the failed runs: what happened, when, and where. Pure.

The tables keep the last run of each outcome: when it was published, received, started, finished and committed, by
which worker, after how many runs; and of the last runs that failed before it the error and its traceback. The
acknowledgement follows the commit (or the confirm of the copy) and is not recorded itself: of it the order is known,
not the time. What is not finished and has not failed has no row at all: see `Whereabouts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from rabbitray.actors.store.schema import SCHEMA_VERSION
from rabbitray.cluster.results.reader import literal

Row = Mapping[str, Any]  # Any: values of the tables

RESULT_COLUMNS = (
    *("key", "message_id", "queue", "message_type", "status", "attempts"),
    *("published_at", "received_at", "started_at", "finished_at", "committed_at", "worker", "batch_id", "trace_id"),
)
DEAD_LETTER_COLUMNS = (
    *("key", "message_id", "queue", "message_type", "error", "error_class", "category", "reason", "attempts"),
    *("first_seen", "dead_at", "recorded_at", "worker", "trace_id", "id"),
)
TRACED_SINCE: Final = 3
"""The schema version since which tracebacks and failed runs are kept."""
TRACE_COLUMNS = ("traceback", "raised_in")
FAILURE_COLUMNS = (
    *("key", "message_id", "queue", "attempts", "reason", "error", "error_class", "traceback", "raised_in"),
    *("worker", "recorded_at"),
)
FAILURES_SHOWN: Final = 3
"""Of a key; the table may hold more of the last one."""
CONFLICT_COLUMNS = ("key", "message_id", "queue", "worker", "recorded_at")
CONFLICTS_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happened. `at` is None where only the order is known; `after_ms`: since the step before.

    `traceback`: of what failed, a line for each frame, where it is known.
    """

    what: str
    at: datetime | None
    detail: str = ""
    after_ms: float | None = None
    traceback: str | None = None


SETTLED_DONE: Final = Step(
    what="settled", at=None, detail="acked to RabbitMQ after the commit; the time of the ack is not recorded"
)
SETTLED_DEAD: Final = Step(
    what="settled",
    at=None,
    detail="acked to RabbitMQ after the record and the copy in the dead-letter queue; the time is not recorded",
)


AGAIN: Final = Step(what="waits", at=None, detail="it runs again: it is in a retry queue, in the queue or at a worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What became of one key in one queue. `ended`: done, dead, done after dead (a replay), or to run again.

    `attempts`: runs of the handler up to its last outcome; None where none is recorded.
    """

    key: str | None
    queue: str
    message_ids: tuple[str, ...]
    message_type: str | None
    ended: str
    attempts: int | None
    trace_id: str | None
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Where messages are that are not finished; None where it is not known. RabbitMQ cannot be asked for a single one.

    `ready`: in the queue; `waiting`: in the retry rungs; `held`: by the pool, in its buffer or at its workers.
    `running`: what the job that is asked for tells of its run, where it does.
    """

    queue: str
    ready: int | None = None
    waiting: int | None = None
    held: int | None = None
    running: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether it is known that no message is on its way."""
        return (self.ready, self.waiting, self.held) == (0, 0, 0)


def unrecorded(name: str, where: str, seen: Whereabouts) -> list[str]:
    """What to say about a message of which nothing is recorded: where it may be, and what to do."""
    if seen.running:
        return [f"{name!r} runs now, and nothing is recorded yet:", *(f"  {line}" for line in seen.running)]
    advice = (
        f"queue, rungs and pool are empty: it was never published to {seen.queue}, has expired, or has another name"
        if seen.empty
        else "RabbitMQ cannot be asked for one message: ask again once it is finished, see `rabbitray status`"
    )
    return [
        f"nothing is recorded about {name!r} in the {where}: a row is written when a message is done or dead",
        f"  it may wait in the queue      {_messages(seen.ready)} ready in {seen.queue}",
        f"  or for its next run           {_messages(seen.waiting)} in the rungs {seen.queue}.retry.*",
        f"  or be worked on               {_messages(seen.held)} held by the pool of these results",
        "  or stand under another name   a retry changes the message id, not the key: ask for the key (where --key "
        "says, else the key header or the job's id); a duplicate has the row of the first",
        f"  {advice}",
    ]


def _messages(count: int | None) -> str:
    return "not known how many" if count is None else f"{count:,}"


def results_sql(name: str, keys: Sequence[str] = ()) -> str:
    """The results of a key or message id, and of the keys that are known to belong to it."""
    return f"SELECT {', '.join(RESULT_COLUMNS)} FROM results WHERE {_matching(name, keys)} ORDER BY committed_at"


def dead_letters_sql(name: str, keys: Sequence[str] = (), *, version: int = SCHEMA_VERSION) -> str:
    """The dead letters of a key or message id, and of the keys that belong to it. `version`: the file's."""
    columns = (*DEAD_LETTER_COLUMNS, *(TRACE_COLUMNS if version >= TRACED_SINCE else ()))
    return f"SELECT {', '.join(columns)} FROM dead_letters WHERE {_matching(name, keys)} ORDER BY dead_at"


def failures_sql(name: str, keys: Sequence[str] = ()) -> str:
    """The last failed runs of a key or message id, and of the keys that belong to it, oldest first."""
    newest = f"QUALIFY row_number() OVER (PARTITION BY queue, key ORDER BY seq DESC) <= {FAILURES_SHOWN + 1}"
    return f"SELECT {', '.join(FAILURE_COLUMNS)} FROM failures WHERE {_matching(name, keys)} {newest} ORDER BY seq"


def conflicts_sql(name: str, keys: Sequence[str] = ()) -> str:
    """The newest of the other messages that came under a key or message id, and under the keys that belong to it."""
    columns = ", ".join(CONFLICT_COLUMNS)
    order = f"ORDER BY recorded_at DESC LIMIT {CONFLICTS_SHOWN}"
    return f"SELECT {columns} FROM conflicts WHERE {_matching(name, keys)} {order}"


def _matching(name: str, keys: Sequence[str]) -> str:
    wanted = ", ".join(literal(key) for key in dict.fromkeys((name, *keys)))
    return f"key IN ({wanted}) OR message_id = {literal(name)}"


def stories(
    results: Sequence[Row],
    dead_letters: Sequence[Row],
    conflicts: Sequence[Row] = (),
    failures: Sequence[Row] = (),
) -> list[Story]:
    """One story for each queue and key; a message without a key is told by its message id."""
    told: dict[tuple[str, str], tuple[list[Row], list[Row], list[Row], list[Row]]] = {}
    for place, rows in enumerate((results, dead_letters, conflicts, failures)):
        for row in rows:
            identity = str(row["queue"]), str(row["key"] or row["message_id"])
            told.setdefault(identity, ([], [], [], []))[place].append(row)
    return [_story(queue, *rows) for (queue, _), rows in told.items() if rows[0] or rows[1] or rows[3]]


def _story(queue: str, done: Sequence[Row], dead: Sequence[Row], others: Sequence[Row], failed: Sequence[Row]) -> Story:
    earlier = _without_last(failed, dead)[-FAILURES_SHOWN:]
    rows = [*done, *dead, *failed]
    steps = [step for row in done for step in _worked(row)] + [step for row in dead for step in _died(row)]
    steps += [_conflict(row) for row in others] + [_failed(row) for row in earlier]
    ordered = sorted((step for step in steps if step.at is not None), key=_time_of)
    first = rows[0]
    return Story(
        key=first["key"],
        queue=queue,
        message_ids=tuple(dict.fromkeys(row["message_id"] for row in rows if row["message_id"])),
        message_type=first.get("message_type"),
        ended=("done, after dead letters" if dead else "done") if done else "dead" if dead else "to run again",
        attempts=(done or dead or failed)[-1]["attempts"],
        trace_id=next((row["trace_id"] for row in rows if row.get("trace_id")), None),
        steps=(*_spaced(ordered), SETTLED_DONE if done else SETTLED_DEAD if dead else AGAIN),
    )


def _without_last(failed: Sequence[Row], dead: Sequence[Row]) -> list[Row]:
    """The failed runs but those that ended as a dead letter: these are told there."""
    left = list(failed)
    for grave in dead:
        last = [row for row in left if row["attempts"] == grave["attempts"] and row["recorded_at"] <= _known_at(grave)]
        if last and last[-1]["error"] == grave["error"]:
            left.remove(last[-1])
    return left


def _known_at(grave: Row) -> datetime:
    moment: datetime = grave["recorded_at"] or grave["dead_at"]
    return moment


def _worked(row: Row) -> list[Step]:
    runs = row["attempts"] or 1
    return [
        Step(what="published", at=row["published_at"]),
        Step(what="received", at=row["received_at"], detail=f"by the router, from {row['queue']}"),
        Step(what="started", at=row["started_at"], detail=f"run {runs} on {row['worker']}, batch {row['batch_id']}"),
        Step(what="finished", at=row["finished_at"], detail=str(row["status"])),
        Step(what="committed", at=row["committed_at"], detail="result row in DuckDB"),
    ]


def _died(row: Row) -> list[Step]:
    error = f"{row['error_class']}: {row['error']}" if row["error_class"] else str(row["error"] or "")
    runs = f" after {row['attempts']} runs" if row["attempts"] and row["attempts"] > 1 else ""
    where = f" on {row['worker']}" if row["worker"] else ""
    return [
        Step(what="first seen", at=row["first_seen"]),
        Step(
            what="parked",
            at=row["dead_at"],
            detail=f"{row['reason']} ({row['category']}){runs}{where}: {error}",
            traceback=row.get("traceback"),
        ),
        Step(what="recorded", at=row["recorded_at"], detail="in dead_letters"),
    ]


def _failed(row: Row) -> Step:
    where = f" on {row['worker']}" if row["worker"] else ""
    raised = f", raised in {row['raised_in']}" if row["raised_in"] else ""
    return Step(
        what="failed",
        at=row["recorded_at"],
        detail=f"run {row['attempts']}{where}{raised}: {row['error_class']}: {row['error']}",
        traceback=row["traceback"],
    )


def _conflict(row: Row) -> Step:
    """Somebody who waits for the result of that message must not take this one for it."""
    which = f"message {row['message_id']}" if row["message_id"] else "a message without an id"
    detail = (
        f"{which}, run on {row['worker']}: another payload (the same in another form counts as one), type or user; its "
        "own result is in conflicts only"
    )
    return Step(what="conflict", at=row["recorded_at"], detail=detail)


def _time_of(step: Step) -> datetime:
    assert step.at is not None
    return step.at


def _with_replays(steps: Sequence[Step]) -> list[Step]:
    """A message that was parked is published again by its replay."""
    parked = next((place for place, step in enumerate(steps) if step.what == "parked"), len(steps))
    behind = (replace(step, what="replayed") if step.what == "published" else step for step in steps[parked:])
    return [*steps[:parked], *behind]


def _spaced(steps: Sequence[Step]) -> list[Step]:
    """The steps with the time since the one before; the same step told twice (by two rows) is told once."""
    found: list[Step] = []
    for step in _with_replays(steps):
        if found and (step.what, step.at, step.detail) == (found[-1].what, found[-1].at, found[-1].detail):
            continue
        before = found[-1].at if found else None
        after = None if before is None or step.at is None else (step.at - before).total_seconds() * 1000
        found.append(replace(step, after_ms=after))
    return found
