"""One job of a batch: where it came from and what came of it; and the ids of the job that runs now, for logs."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from rabbitray.actors.message.headers import JOB_MSGPACK
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.message import Message, message_of
from rabbitray.actors.message.parcel import Parcel, Record
from rabbitray.actors.message.reply import Category, Failure, Progress
from rabbitray.actors.telemetry.trace_context import trace_id_of


@dataclass(frozen=True, slots=True)
class Trace:
    """`text`: a line for each frame, the call first, "" where nothing is known; `place`: `file:line` of the user's own
    code where the error was raised, "" likewise.
    """

    text: str = ""
    place: str = ""


NO_TRACE: Final = Trace()


class Failed(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Why a job is not DONE, in words, and what that means for it. `exception`: for its span; `trace`: for people."""

    verdict: Literal["retry", "dead"]
    reason: str
    category: Category
    after_s: float | None
    error: str
    error_class: str
    exception: BaseException
    trace: Trace = NO_TRACE

    def failure(self, record: Record, position: int) -> Failure:
        """As it goes back to the router. `record`: the job that failed; `position`: of its message in the batch."""
        return Failure(
            position=position,
            verdict=self.verdict,
            reason=self.reason,
            error=self.error,
            error_class=self.error_class,
            category=self.category,
            after_s=self.after_s,
            traceback=self.trace.text,
            raised_in=self.trace.place,
            record=record.record,
            attempt=record.attempt,
            key=record.key,
            message_id=record.message_id,
            message_type=record.message_type,
            body=record.body,
            content_type=record.content_type,
        )


class Unit(msgspec.Struct, eq=False, kw_only=True):
    """One job of a batch: where it came from, and what came of it."""

    position: int
    record: int
    packed: bool
    job: Job
    parcel: Parcel
    key: str | None
    attempt: int
    payload_hash: int
    started_us: int = 0
    finished_us: int = 0
    result: str = ""  # JSON text of what the handler returned
    limit: asyncio.Timeout | None = None  # of an async call, while it runs
    told: Progress | None = None  # how far it is, as its handler told last
    failed: Failed | None = None

    def message(self) -> Message:
        """The message that it came in, whole; of several jobs in one, each has the same."""
        parcel = self.parcel
        if parcel.envelope is None:
            raise RuntimeError("the message came without its envelope, though the worker asks for it")
        return message_of(parcel.envelope, parcel.body, parcel.received_ms)

    def failure(self, failed: Failed, body: bytes | None) -> Failure:
        """Its failure as it goes back. `body`: of one of several jobs in a message, its own."""
        record = Record(
            record=self.record,
            attempt=self.attempt,
            key=self.key,
            message_id=self.parcel.message_id,
            message_type=self.job.message_type or None,
            body=body,
            content_type=JOB_MSGPACK if body is not None else None,
        )
        return failed.failure(record, self.position)


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
