"""A handler runs inside the trace of its batch, in whatever style it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from actors.categories import Categories
from actors.handlers import Handler, Style
from actors.tracing import Tracing, current_ids
from actors.worker import Worker, WorkerConfig
from tests.test_worker import buffer, whole


def sync(job: Any) -> Any:
    return current_ids()


async def slots(job: Any) -> Any:
    return current_ids()


def batch(jobs: list[Any]) -> list[Any]:
    return [current_ids() for _ in jobs]


@pytest.mark.parametrize(("call", "style"), [(sync, "sync"), (slots, "async"), (batch, "batch")])
async def test_a_handler_sees_the_span_of_its_batch(call: Callable[..., Any], style: Style) -> None:
    """Its log lines carry the trace id, and spans of its own are children of the batch."""
    tracing = Tracing(queue="q", provider=TracerProvider(shutdown_on_exit=False))
    handler = Handler(name="test", style=style, call=call, close=lambda: None)
    worker = Worker(WorkerConfig(name="w-1", queue="q", early_s=10.0), handler, Categories(), tracing)
    parts, rows = await whole(worker, buffer(1, 2))
    await worker.close()
    (trace_id,) = {part.span.split("-")[1] for part in parts if part.span}
    assert len(rows) == 2
    assert all(trace_id in str(row["result"]) for row in rows), rows
