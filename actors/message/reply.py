"""What a worker answers the router: a part of a batch with its failures, its CPU and memory, its address. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from rabbitray.actors.errors import ERROR_TEXT_MOST
from rabbitray.actors.message.parcel import Record

Category = Literal["transient", "permanent", "unknown"]

_REASON_MOST: Final = 64

WORKER_BROKEN: Final = "worker_broken"
"""The reason of a job whose handler said that its worker cannot work any more."""

CLOCK_OFF_S: Final = 2.0
"""From here on it is worth a line that the clock of a node is off."""


class Failure(Record, frozen=True, kw_only=True, array_like=True):
    """A record that did not end DONE, and why. `position`: of its message in the batch."""

    position: int
    verdict: Literal["retry", "dead"]
    reason: str  # short stable code: exception, retry_requested, rejected, permanent, bad_msgpack, ...
    error: str
    error_class: str
    category: Category
    after_s: float | None = None
    unread: bool = False  # nobody has read its body: the key that it is worked under may not be the message id
    traceback: str = ""  # where in the user's code; for people, in the results only: no header of a copy has it
    raised_in: str = ""  # `file:line` of the user's code

    @classmethod
    def permanent(
        cls,
        record: Record,
        reason: str,
        error: str,
        error_class: str,
        *,
        position: int = 0,
        unread: bool = False,
        traceback: str = "",
    ) -> Failure:
        """The failure of a record that is not to run again.

        Twice as much as is kept is taken of `error`, which may hold what a producer wrote: whoever keeps it hides the
        secrets in it first, and cuts it then.
        """
        return cls(
            position=position,
            verdict="dead",
            reason=reason[:_REASON_MOST],
            error=error[: 2 * ERROR_TEXT_MOST],
            error_class=error_class,
            category="permanent",
            record=record.record,
            attempt=record.attempt,
            key=record.key,
            message_id=record.message_id,
            message_type=record.message_type,
            body=record.body,
            content_type=record.content_type,
            unread=unread,
            traceback=traceback,
        )


class FailedRun(msgspec.Struct, kw_only=True, array_like=True, frozen=True):
    """A run of a job that failed and is not its last one: a row of the table `failures`."""

    key: str | None
    message_id: str | None
    attempts: int  # runs so far, this one included
    reason: str
    category: str
    error: str
    error_class: str
    traceback: str
    raised_in: str
    worker: str

    @classmethod
    def of(cls, failure: Failure, worker: str) -> FailedRun:
        """Of a failure whose job runs again."""
        return cls(
            key=failure.key,
            message_id=failure.message_id,
            attempts=failure.attempt + 1,
            reason=failure.reason,
            category=failure.category,
            error=failure.error,
            error_class=failure.error_class,
            traceback=failure.traceback,
            raised_in=failure.raised_in,
            worker=worker,
        )


class Usage(msgspec.Struct, kw_only=True, array_like=True, frozen=True):
    """What a worker's process uses, as it measured it itself: CPU in percent of one core, resident memory in bytes."""

    cpu_percent: float | None  # None: measured for the first time, there is nothing to compare with
    rss_bytes: int


class Progress(msgspec.Struct, kw_only=True, array_like=True, frozen=True):
    """How far a job that runs is, as its handler told. Times in Unix seconds, by the clock of the worker's machine."""

    position: int  # of its message in the batch
    record: int
    key: str | None
    fraction: float
    text: str
    started_at: float
    told_at: float


class Part(msgspec.Struct, kw_only=True, array_like=True):
    """Outcomes of one batch since the last part. Positions are indices of messages in the batch."""

    rows: int = 0  # rows of the table that travels beside this part
    row_positions: list[int] = []  # message of each row
    row_records: list[int] = []  # index of the record inside that message; empty: all 0
    failures: list[Failure] = []
    finished: list[int] = []  # messages all of whose records have an outcome now
    returned: list[int] = []  # messages given back undone: none of their records was started
    executing: list[int] = []  # messages with a job in the handler now
    open: int = 0  # jobs of this batch still to come in a later part
    jobs: int = 0  # jobs that got their outcome in this part, skipped ones included
    span: str | None = None  # traceparent of the batch's process span, when it is traced
    busy_s: float = 0.0  # seconds in which this worker had a job in the handler, since its last part
    usage: Usage | None = None  # what its process uses; only where there is a new reading, every few seconds
    row_bytes: int = 0  # of the rows of the table that travels beside this part
    stands: str = ""  # where in the user's code a synchronous job stands that may run into its time-out
    skipped: int = 0  # jobs that were not run: they have their result
    keys: dict[
        int, list[str | None]
    ] = {}  # of each message whose body says it, by record; told before any of them runs
    broken: str = ""  # a handler said that this worker cannot work any more, and why
    progress: list[Progress] = []  # of jobs that run, those that have told it since the last part


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Part)


def encode_part(part: Part) -> bytes:
    """A part as one small buffer."""
    return _encoder.encode(part)


def decode_part(buffer: bytes) -> Part:
    """The inverse of `encode_part`."""
    return _decoder.decode(buffer)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """What a worker says when it is ready."""

    slots: int
    pid: int
    node: str
    host: str = ""  # name of its machine
    address: str = ""  # of its node, as Ray has it
    clock_s: float = 0.0  # how far its machine's clock is ahead of the router's, by which its times are corrected
    usage: Usage | None = None
    up_s: float = 0.0  # since its process began
    start_s: float | None = None  # how long it took to start, where that is not the time since it was asked for
    asks_message: bool = False  # its handler or decoder wants the whole message: parcels go there with an envelope
