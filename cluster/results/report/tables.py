"""Tables of the report: a head, rows of cells, and how each cell is written. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rabbitray.cluster.results.report.markup import Html, tag
from rabbitray.cluster.results.report.scale import clock, duration, number

Row = Mapping[str, Any]  # Any: a value of a row
TEXT_MOST = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`write` makes the cell's text of the row; `kind` is a class: number, code, text or long."""

    title: str
    write: Callable[[Row], str]
    kind: str = "text"


def table(columns: Sequence[Column], rows: Sequence[Row], *, none: str) -> Html:
    """The table, in a box that scrolls by itself where the page is narrow; a sentence where there are no rows."""
    if not rows:
        return tag("p", none, class_="none")
    head = tag("tr", *(tag("th", column.title, class_=column.kind, scope="col") for column in columns))
    lines = [tag("tr", *(tag("td", column.write(row), class_=column.kind) for column in columns)) for row in rows]
    inner = tag("table", tag("thead", head), tag("tbody", *lines))
    return tag("div", inner, class_="scroll", tabindex="0")


def text(name: str, title: str | None = None) -> Column:
    """A value as text, cut where it is long."""
    return Column(title=title or name.replace("_", " "), write=lambda row: short(row[name]))


def long(name: str, title: str | None = None) -> Column:
    """A sentence, in a cell of its own width."""
    return Column(title=title or name.replace("_", " "), write=lambda row: short(row[name]), kind="long")


def code(name: str, title: str | None = None) -> Column:
    """An id, in a typewriter face."""
    return Column(title=title or name.replace("_", " "), write=lambda row: short(row[name]), kind="code")


def count(name: str, title: str | None = None) -> Column:
    """A number."""
    return Column(title=title or name.replace("_", " "), write=lambda row: number(row[name]), kind="number")


def milliseconds(name: str, title: str) -> Column:
    """A duration."""
    return Column(title=title, write=lambda row: duration(row[name]), kind="number")


def moment(name: str, title: str) -> Column:
    """A time (UTC), from Unix seconds."""
    return Column(title=title, write=lambda row: "" if row[name] is None else clock(row[name]), kind="code")


def short(value: object) -> str:
    """Text of bounded length; a list as its items."""
    if value is None:
        return ""
    words = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return words if len(words) <= TEXT_MOST else f"{words[:TEXT_MOST]}\N{HORIZONTAL ELLIPSIS}"


def _mean_runs(row: Row) -> str:
    return f"{row['attempts']:.2f}" if row["attempts"] is not None else ""


ERRORS = (
    text("error_class", "error"),
    text("category"),
    text("reasons"),
    count("jobs"),
    long("latest", "latest text"),
)
DEAD_LETTERS = (
    moment("at_s", "when"),
    code("key"),
    text("message_type", "type"),
    text("reason"),
    text("error_class", "error"),
    long("error", "text"),
    count("attempts", "runs"),
    count("bytes"),
    code("worker"),
    code("trace_id", "trace"),
)
SLOWEST = (
    milliseconds("handler_ms", "in the handler"),
    milliseconds("latency_ms", "publish to result"),
    code("key"),
    text("message_type", "type"),
    text("user_id", "user"),
    count("attempts", "runs"),
    code("worker"),
    code("trace_id", "trace"),
)
TYPES = (
    text("message_type", "type"),
    count("jobs"),
    milliseconds("p50", "handler p50"),
    milliseconds("p95", "handler p95"),
    Column(title="runs per job", write=_mean_runs, kind="number"),
)
DECISIONS = (
    moment("at", "when"),
    text("change", "workers"),
    text("event"),
    count("backlog"),
    long("reason"),
)
