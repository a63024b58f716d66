"""Following a job: its log until it ends, what Ctrl-C does meanwhile, and the exit code that it leaves."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from rabbitray.actors.errors import RabbitrayError
from rabbitray.cluster.submit.server import JobServer, JobState

AGAIN_AFTER_S: Final = 2.0
GONE_AFTER_S: Final = 120.0
INTERRUPTED: Final = 130

Say = Callable[[str], None]
"""Shows one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How following ended: the exit code, and the last line for people. `status`: of the job, as Ray calls it."""

    code: int
    text: str
    status: str


class LogLines:
    """The lines of a log that comes in pieces, from its beginning whenever one connects: each line once."""

    def __init__(self, show: Say) -> None:
        self._show = show
        self._shown = 0
        self._at = 0
        self._rest = ""

    def begin(self) -> None:
        """The log comes again from its beginning."""
        self._at = 0

    def take(self, piece: str) -> None:
        """Shows what is new of it, as far as there are whole lines."""
        new = piece[max(0, self._shown - self._at) :]
        self._at += len(piece)
        self._shown = max(self._shown, self._at)
        *whole, self._rest = (self._rest + new).split("\n")
        for line in whole:
            self._show(line)

    def end(self) -> None:
        """Shows a last line without an end."""
        if self._rest:
            self._show(self._rest)
        self._rest = ""


class Interrupts:
    """Ctrl-C while a job runs: counted, instead of ending this process. Used as a context manager."""

    def __init__(self) -> None:
        self._come = asyncio.Event()

    def __enter__(self) -> Interrupts:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._come.set)
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

    async def next(self) -> None:
        """Waits for the next one, or returns at once where it has come."""
        await self._come.wait()
        self._come.clear()


def ways_on(url: str, submission_id: str) -> str:
    """How to follow and to stop a job, for people."""
    at = f"--address {url}"
    return f"follow it: ray job logs {at} --follow {submission_id}; stop it: ray job stop {at} {submission_id}"


async def follow(
    server: JobServer,
    submission_id: str,
    interrupts: Interrupts,
    *,
    stop: bool,
    show: Say,
    say: Say,
    again_after_s: float = AGAIN_AFTER_S,
) -> End:
    """Shows the job's log with `show` until it has ended, and our own words with `say`.

    `stop`: the first Ctrl-C stops the job, and a second one leaves it; without it the first one leaves it. Never
    raises for a connection that breaks: the log is tried again for as long as the job server tells of the job, and this
    one for two minutes, in which the job goes on anyway.
    """
    tail = asyncio.ensure_future(_until_ended(server, submission_id, LogLines(show), say, again_after_s))
    try:
        if await interrupted(tail, interrupts):
            if not stop:
                return left(server.url, submission_id)
            say(f"stopping job {submission_id}, which drains; Ctrl-C again leaves it alone")
            asked = await stop_job(server, submission_id, say)
            if await interrupted(tail, interrupts):
                return left(server.url, submission_id, stops=asked)
        return end_of(server.url, submission_id, await tail)
    finally:
        tail.cancel()
        await asyncio.gather(tail, return_exceptions=True)


def left(url: str, submission_id: str, *, stops: bool = False) -> End:
    """What a Ctrl-C that does not end the job leaves. `stops`: it was asked to end."""
    does = "was asked to stop, and drains" if stops else "goes on"
    return End(code=INTERRUPTED, text=f"job {submission_id} {does}; {ways_on(url, submission_id)}", status="RUNNING")


def end_of(url: str, submission_id: str, job: JobState | None) -> End:
    """The end of a job, or of what could be known of it. Pure."""
    if job is None:
        return End(
            code=1, text=f"job {submission_id} is lost from sight; {ways_on(url, submission_id)}", status="UNKNOWN"
        )
    if job.status == "SUCCEEDED":
        return End(code=job.exit_code or 0, text=f"job {submission_id} has ended well", status=job.status)
    if job.status == "STOPPED":
        return End(code=0, text=f"job {submission_id} was stopped; its log says what it gave back", status=job.status)
    code = job.exit_code or 1
    why = f"exit code {code}" if job.exit_code else _first_line(job.message)
    hint = "; name the cluster's Python with --python" if job.exit_code == 127 else ""
    return End(code=min(code % 256 or 1, 255), text=f"job {submission_id} failed: {why}{hint}", status=job.status)


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "Ray does not say why"


async def interrupted(work: asyncio.Future[Any], interrupts: Interrupts) -> bool:  # Any: whatever it gives
    """Waits for the end of `work` or a Ctrl-C; whether it was that."""
    pressed = asyncio.ensure_future(interrupts.next())
    try:
        await asyncio.wait((work, pressed), return_when=asyncio.FIRST_COMPLETED)
        return not work.done()
    finally:
        pressed.cancel()


async def stop_job(server: JobServer, submission_id: str, say: Say) -> bool:
    """Asks the job to end; returns whether that could be done, and says so where not."""
    try:
        await server.stop(submission_id)
    except RabbitrayError as error:
        say(f"it could not be stopped: {error}; {ways_on(server.url, submission_id)}")
        return False
    return True


async def _until_ended(
    server: JobServer, submission_id: str, lines: LogLines, say: Say, again_after_s: float
) -> JobState | None:
    """The job when it has ended; None where the job server does not answer for two minutes, or knows it no more."""
    silent_since: float | None = None
    broken = had_ended = False
    while True:
        unread = await _read_log(server, submission_id, lines)
        try:
            job = await server.job(submission_id)
        except RabbitrayError as error:
            unread = error
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > GONE_AFTER_S:
                lines.end()
                return None
        else:
            silent_since = None
            if job is None or (job.ended and (unread is None or had_ended)):
                lines.end()
                if job is not None and unread is not None:
                    say(f"the rest of its log cannot be read: {unread}")
                return job
            had_ended = job.ended  # the rest of its log is tried once more
        if unread is not None and not broken and not had_ended:
            say(f"{unread}; the job goes on, and the log is tried again")
        broken = unread is not None
        await asyncio.sleep(again_after_s)


async def _read_log(server: JobServer, submission_id: str, lines: LogLines) -> RabbitrayError | None:
    """Reads the log to its end; returns why it could not."""
    lines.begin()
    try:
        async for piece in server.log(submission_id):
            lines.take(piece)
    except RabbitrayError as error:
        return error
    return None
