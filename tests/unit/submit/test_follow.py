"""A job's log and its end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.cluster.submit import follow as follow_module
from rabbitray.cluster.submit.follow import Interrupts, LogLines, end_of, follow
from rabbitray.cluster.submit.server import JobState, NoAnswerError
from tests.kit.eventually import eventually


@given(
    text=st.text("ab\n", max_size=40),
    breaks=st.lists(st.lists(st.integers(0, 40), max_size=4), min_size=1, max_size=4),
)
def test_each_line_is_shown_once_however_the_log_comes_and_however_often_it_breaks(
    text: str, breaks: list[list[int]]
) -> None:
    """Each connection begins the log anew and brings some pieces of it; the last one brings all."""
    shown: list[str] = []
    lines = LogLines(shown.append)
    for number, cuts in enumerate(breaks):
        last = number == len(breaks) - 1
        marks = sorted({0, *(min(cut, len(text)) for cut in cuts), *([len(text)] if last else [])})
        lines.begin()
        for start, end in pairwise(marks):
            lines.take(text[start:end])
    lines.end()
    assert shown == text.removesuffix("\n").split("\n") if text else shown == []


def state(status: str, **more: object) -> JobState:
    return JobState(submission_id="job", status=status, metadata={}, **more)  # type: ignore[arg-type] # as named


@pytest.mark.parametrize(
    ("job", "code", "says"),
    [
        (state("SUCCEEDED", exit_code=0), 0, "has ended well"),
        (state("FAILED", exit_code=2, message="Job entrypoint failed\nlog"), 2, "failed: exit code 2"),
        (state("FAILED", exit_code=127), 127, "--python"),
        (state("FAILED", exit_code=-9), 247, "exit code -9"),
        (state("FAILED", message="runtime_env setup failed: no pip\nmore"), 1, "runtime_env setup failed: no pip"),
        (state("FAILED"), 1, "Ray does not say why"),
        (state("STOPPED"), 0, "was stopped"),
        (None, 1, "lost from sight; follow it: ray job logs --address http://x --follow job"),
    ],
)
def test_the_exit_code_is_the_job_s(job: JobState | None, code: int, says: str) -> None:
    end = end_of("http://x", "job", job)
    assert end.code == code
    assert says in end.text
    assert "\n" not in end.text


@dataclass
class FakeServer:
    """A job server whose job runs until it is stopped; its log breaks `breaks` times after the first line."""

    breaks: int = 0
    url: str = "http://x"
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    stops: int = 0
    ends_when_stopped: bool = True
    stop_fails: bool = False
    silent: bool = False

    async def log(self, submission_id: str) -> AsyncIterator[str]:
        yield "one\n"
        if self.breaks:
            self.breaks -= 1
            raise NoAnswerError("gone")
        await self.stopped.wait()
        yield "two\n"

    async def job(self, submission_id: str) -> JobState:
        if self.silent:
            raise NoAnswerError("silent")
        return state("STOPPED" if self.stopped.is_set() else "RUNNING")

    async def stop(self, submission_id: str) -> None:
        self.stops += 1
        if self.stop_fails:
            raise NoAnswerError("no")
        if self.ends_when_stopped:
            self.stopped.set()


async def followed(server: FakeServer, *, stop: bool, presses: int) -> tuple[int, list[str], list[str]]:
    """Exit code, lines of the log, lines of ours, with so many Ctrl-C, each once the last one was answered."""
    shown: list[str] = []
    said: list[str] = []
    with Interrupts() as interrupts:
        following = asyncio.ensure_future(
            follow(
                server,  # type: ignore[arg-type] # a fake
                "job",
                interrupts,
                stop=stop,
                show=shown.append,
                say=said.append,
                again_after_s=0.001,
            )
        )
        for _ in range(presses):
            before = server.stops
            await eventually(lambda: shown)
            os.kill(os.getpid(), signal.SIGINT)
            await eventually(lambda: following.done() or server.stops > before)  # noqa: B023 # asked at once
        end = await following
    return end.code, shown, [*said, end.text]


async def test_ctrl_c_leaves_the_job_alone_and_says_how_to_find_it_again() -> None:
    server = FakeServer()
    code, _, said = await followed(server, stop=False, presses=1)
    assert (code, server.stops) == (130, 0)
    assert said == [
        "job job goes on; follow it: ray job logs --address http://x --follow job; "
        "stop it: ray job stop --address http://x job"
    ]


async def test_ctrl_c_stops_the_job_where_that_was_asked_for_and_the_log_is_shown_to_its_end() -> None:
    server = FakeServer()
    code, shown, said = await followed(server, stop=True, presses=1)
    assert (code, server.stops, shown) == (0, 1, ["one", "two"])
    assert "drains" in said[0]
    assert "was stopped" in said[1]


async def test_a_second_ctrl_c_leaves_a_job_that_takes_long_to_drain() -> None:
    code, _, said = await followed(FakeServer(ends_when_stopped=False), stop=True, presses=2)
    assert code == 130
    assert said[-1].startswith("job job was asked to stop, and drains; follow it: ")


async def test_a_job_that_cannot_be_stopped_goes_on() -> None:
    server = FakeServer(stop_fails=True)
    code, _, said = await followed(server, stop=True, presses=2)
    assert code == 130
    assert said[-1].startswith("job job goes on; ")
    assert said[-2].startswith("it could not be stopped: no; ")


async def test_a_log_that_can_never_be_read_does_not_hide_the_job_s_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "GONE_AFTER_S", 0.02)
    server = FakeServer(breaks=10**9)
    asyncio.get_running_loop().call_later(0.1, server.stopped.set)
    code, shown, said = await followed(server, stop=False, presses=0)
    assert (code, shown) == (0, ["one"])
    assert said[:-1] == [
        "gone; the job goes on, and the log is tried again",
        "the rest of its log cannot be read: gone",
    ]
    assert "was stopped" in said[-1]


async def test_a_job_server_that_tells_nothing_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "GONE_AFTER_S", 0.02)
    code, _, said = await followed(FakeServer(breaks=10**9, silent=True), stop=False, presses=0)
    assert code == 1
    assert [line.split(";")[0] for line in said] == ["silent", "job job is lost from sight"]


async def test_a_connection_that_breaks_is_told_once_and_the_log_goes_on() -> None:
    server = FakeServer(breaks=3)
    asyncio.get_running_loop().call_later(0.1, server.stopped.set)
    code, shown, said = await followed(server, stop=False, presses=0)
    assert (code, shown) == (0, ["one", "two"])
    assert [line for line in said if "tried again" in line] == ["gone; the job goes on, and the log is tried again"]
