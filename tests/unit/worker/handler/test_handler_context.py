"""A handler runs inside the trace of its batch, in whatever style it is written; its log lines name their own job."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from rabbitray.actors.telemetry.trace_context import current_ids
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.actors.worker.handler.loading import Handler
from rabbitray.actors.worker.handler.shape import Style
from rabbitray.actors.worker.outcome.verdict import Categories
from rabbitray.actors.worker.worker import Worker, WorkerConfig
from rabbitray.cluster.telemetry.logs import JsonLines, TextLines
from tests.kit.worker_batches import buffer, parcels, single, whole

TRACES = {f"m{n}": f"{n + 2:032x}" for n in range(2)}
TRACED = [
    single(n, n, message_id=message_id, traceparent=f"00-{trace_id}-00000000000000aa-01")
    for n, (message_id, trace_id) in enumerate(TRACES.items())
]

own = logging.getLogger("tests.own_handler")


def sync(job: Any) -> Any:
    return current_ids()


async def slots(job: Any) -> Any:
    return current_ids()


def batch(jobs: list[Any]) -> list[Any]:
    return [current_ids() for _ in jobs]


async def run_batch(call: Callable[..., Any], style: Style, body: bytes, tracing: Tracing) -> tuple[str | None, Any]:
    """(trace id of the batch's span, rows)"""
    handler = Handler(name="test", style=style, call=call, close=lambda: None)
    worker = Worker(WorkerConfig(name="w-1", queue="q", early_s=10.0), handler, Categories(), tracing)
    parts, rows = await whole(worker, body)
    await worker.close()
    trace_ids = {part.span.split("-")[1] for part in parts if part.span}
    assert len(trace_ids) <= 1
    return next(iter(trace_ids), None), rows


def traced() -> Tracing:
    return Tracing(queue="q", provider=TracerProvider(shutdown_on_exit=False))


@pytest.mark.parametrize(("call", "style"), [(sync, "sync"), (slots, "async"), (batch, "batch")])
async def test_a_handler_sees_the_span_of_its_batch(call: Callable[..., Any], style: Style) -> None:
    """Its log lines carry the trace id, and spans of its own are children of the batch."""
    trace_id, rows = await run_batch(call, style, buffer(1, 2), traced())
    assert trace_id
    assert len(rows) == 2
    assert all(trace_id in str(row["result"]) for row in rows), rows


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    writer = logging.StreamHandler(stream)
    writer.setFormatter(JsonLines("worker", {}, ()))
    own.addHandler(writer)
    yield stream
    own.removeHandler(writer)


def entries(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def logs(job: Any) -> None:
    own.warning("%s", job.payload)


def logs_when_all_have_started() -> Callable[..., Any]:
    """An async handler whose two jobs are both under way when the first writes its line."""
    barrier = asyncio.Barrier(2)

    async def handle(job: Any) -> None:
        await barrier.wait()
        own.warning("%s", job.payload)

    return handle


@pytest.mark.parametrize("style", ["sync", "async"])
async def test_a_line_of_a_handler_names_its_job_and_the_trace_of_its_message(style: Style, lines: io.StringIO) -> None:
    call = logs if style == "sync" else logs_when_all_have_started()
    batch_trace_id, _ = await run_batch(call, style, parcels(*TRACED), traced())
    found = {entry["message"]: entry for entry in entries(lines)}
    assert {said: (entry["key"], entry["message_id"], entry["trace_id"]) for said, entry in found.items()} == {
        "0": ("j0", "m0", TRACES["m0"]),
        "1": ("j1", "m1", TRACES["m1"]),
    }
    for entry in found.values():
        assert entry["batch_trace_id"] == batch_trace_id
        assert entry["batch_span_id"]
        assert "span_id" not in entry, "it would be a span of another trace"


async def test_a_line_names_its_job_without_any_tracing(lines: io.StringIO) -> None:
    await run_batch(logs, "sync", buffer("a"), Tracing(queue="q"))
    (entry,) = entries(lines)
    assert (entry["key"], entry["message_id"]) == ("j0", "m0")
    assert not {"trace_id", "span_id", "batch_trace_id", "batch_span_id"} & set(entry)


async def test_a_message_without_a_trace_has_that_of_its_batch(lines: io.StringIO) -> None:
    batch_trace_id, _ = await run_batch(logs, "sync", buffer("a"), traced())
    (entry,) = entries(lines)
    assert (entry["key"], entry["trace_id"]) == ("j0", batch_trace_id)
    assert entry["span_id"]
    assert "batch_trace_id" not in entry


async def test_lines_of_a_batch_handler_carry_the_ids_of_the_batch(lines: io.StringIO) -> None:
    def together(jobs: list[Any]) -> list[None]:
        own.warning("%d", len(jobs))
        return [None for _ in jobs]

    batch_trace_id, _ = await run_batch(together, "batch", parcels(*TRACED), traced())
    (entry,) = entries(lines)
    assert entry["trace_id"] == batch_trace_id
    assert not {"key", "message_id", "batch_trace_id"} & set(entry)


async def test_what_a_job_leaves_behind_does_not_log_under_its_name(lines: io.StringIO) -> None:
    """A connection opened in one job, say, that is used for the others too."""
    ended, left = asyncio.Event(), []

    async def later() -> None:
        await ended.wait()
        own.warning("later")

    async def handle(job: Any) -> None:
        left.append(asyncio.create_task(later()))

    await run_batch(handle, "async", buffer("a"), Tracing(queue="q"))
    ended.set()
    await asyncio.gather(*left)
    (entry,) = entries(lines)
    assert (entry["message"], "key" in entry) == ("later", False)


async def test_a_line_break_in_a_key_makes_no_second_line(lines: io.StringIO) -> None:
    (writer,) = own.handlers
    writer.setFormatter(TextLines("worker", {}, ()))
    await run_batch(logs, "sync", parcels(single(0, "a", key="k\n2026 INFO forged")), Tracing(queue="q"))
    (line,) = lines.getvalue().splitlines()
    assert r"key=k\n2026 INFO forged" in line
