"""Which job a handler is called for at this moment, so that the log lines of the call can name it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from actors.run import Unit
from actors.tracing import trace_id_of

CALLED: Final[ContextVar[Unit | None]] = ContextVar("rabbitray_called", default=None)
"""The job of the call that runs in this context; set before each, and all that it costs: ids are derived when asked."""


def called_ids() -> dict[str, str]:
    """`key`, `message_id` and `trace_id` of the job that is being handled, those that it has; empty outside a call.

    What a handler left behind (a task, a connection) runs on in the context of its job: its call has ended, so
    it names no job.
    """
    unit = CALLED.get()
    if unit is None or unit.finished_us:
        return {}
    parcel = unit.parcel
    ids = {"key": unit.key, "message_id": parcel.message_id, "trace_id": trace_id_of(parcel.traceparent)}
    return {name: value for name, value in ids.items() if value}
