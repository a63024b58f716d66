"""A handler steered by its payload: `{"do": "ok|raise|reject|retry|hang|die|slow|echo", ...}`.

`handle` is synchronous, `handle_async` asynchronous, `handle_batch` takes many, `handle_with_message` asks for the
message, too. A payload that is no such dict is
`ok`. Poison: `die` ends the process, `segfault` by a bad address, `killed` by SIGKILL as the kernel does when memory
runs out; `hog` takes `gb` of memory; `spin` never leaves Python and `stuck` never leaves C, with the interpreter's lock
held.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from rabbitray import Job, Message, Reject, Retry, batch


def _steps(job: Job) -> dict[str, Any]:
    return job.payload if isinstance(job.payload, dict) else {}


def _act(job: Job, steps: dict[str, Any]) -> Any:
    match steps.get("do", "ok"):
        case "raise" if job.attempt < steps.get("times", 1_000):
            raise ConnectionError(steps.get("text", "told to raise"))
        case "needs" if os.path.exists(steps["file"]):
            raise ConnectionError("the service is down")
        case "stamp":
            with Path(steps["file"]).open("a") as file:
                file.write(f"{time.time()}\n")
            if job.attempt < steps["times"]:
                raise Retry("stamped", after_s=steps.get("after_s"))
        case "note":
            with Path(steps["file"]).open("a") as file:  # one write each: lines of several workers do not mix
                file.write(f"{time.time()},{job.key},{job.attempt}\n")
            if job.attempt < steps.get("times", 0):
                raise Retry("noted")
        case "permanent":
            raise ValueError(steps.get("text", "told to fail for good"))
        case "refuses" if os.path.exists(steps["file"]):
            raise ValueError("no such account")
        case "reject":
            raise Reject(steps.get("text", "told to reject"))
        case "retry" if job.attempt < steps.get("times", 1_000):
            raise Retry("told to retry", after_s=steps.get("after_s"))
        case "echo":
            return {"key": job.key, "payload": job.payload}
        case "bulk":
            return {"key": job.key, "bulk": os.urandom(steps["bytes"] // 2).hex()}
        case "sum":
            return {"sum": zlib.crc32(steps["text"].encode())}
        case "fork":
            return {"code": _code_of_a_child(steps["code"])}
        case "odd":
            return _odd(steps["how"], job)
        case "die" | "segfault" | "killed" | "hog" | "spin" | "stuck" as poison:
            _poison(poison, steps)
    return {"key": job.key, "attempt": job.attempt, "n": steps.get("n"), "pid": os.getpid()}


class _Lazy(Mapping[str, object]):
    """A result that cannot be read any more."""

    def __getitem__(self, key: str) -> object:
        raise OSError("the connection is closed")

    def __iter__(self) -> Iterator[str]:
        return iter(("name",))

    def __len__(self) -> int:
        return 1


class _OwnRetry(Retry):
    """One that does not call our `__init__`."""

    def __init__(self, code: int) -> None:
        self.code = code


_seen: dict[str, list[str | None]] = {"keys": []}


def _odd(how: str, job: Job) -> Any:
    """What handlers return and raise against all advice."""
    match how:
        case "goes on changing":
            _seen["keys"].append(job.key)
            return _seen
        case "awaitable":
            return _later(job)
        case "lazy":
            return _Lazy()
        case "two keys":
            return {1: "a", "1": "b"}
        case "own retry" if not job.attempt:
            raise _OwnRetry(7)
        case "group":
            raise ExceptionGroup("several", [ConnectionError("down"), Reject("closed")])
        case "cause":
            raise RuntimeError("wrapped") from ValueError("no such field")
    return {"key": job.key}


async def _later(job: Job) -> dict[str, Any]:
    await asyncio.sleep(0.01)
    return {"key": job.key}


async def _odd_end(how: str, job: Job) -> None:
    """How async handlers end more than their job; the second run is fine."""
    if job.attempt:
        return
    if how == "cancels its task":
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)
    if how == "exits in a task":
        await asyncio.create_task(_exits())


async def _exits() -> None:
    sys.exit(3)


def _code_of_a_child(code: int) -> int:
    """With which code a child ended that `sys.exit` took out of the handler."""
    child = os.fork()
    if not child:
        sys.exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _poison(kind: str, steps: dict[str, Any]) -> None:
    """Ends or blocks this process, which is noted first where `file` says so."""
    if "file" in steps:
        with Path(steps["file"]).open("a") as file:
            file.write(f"{os.getpid()}\n")
    match kind:
        case "die":
            os._exit(steps.get("code", 11))
        case "segfault":
            ctypes.string_at(0)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hog":
            _hog(steps["gb"])
            return
        case "stuck":
            ctypes.PyDLL(None).sleep(3600)
    while True:
        pass


def _hog(gb: float) -> None:
    """Takes memory bit by bit, so that Ray's memory monitor strikes before the kernel does."""
    taken = []
    for _ in range(int(gb * 16)):
        taken.append(os.urandom(1024) * 64 * 1024)
        time.sleep(0.02)


def handle(job: Job) -> Any:
    """Does what the payload says; `slow` sleeps `s` seconds, `hang` sleeps for an hour."""
    steps = _steps(job)
    wait_s = {"slow": steps.get("s", 1.0), "sum": 0.1, "hang": 3600.0}.get(steps.get("do", "ok"), 0.0)
    if wait_s:
        time.sleep(wait_s)
    return _act(job, steps)


def handle_with_message(job: Job, message: Message) -> Any:
    """As `handle`; what it echoes, it echoes with the message that it came in, but for its body."""
    found = handle(job)
    if _steps(job).get("do") == "echo":
        found["message"] = {name: value for name, value in msgspec.structs.asdict(message).items() if name != "body"}
        found["size"] = len(message.body)
    return found


async def handle_async(job: Job) -> Any:
    """The same, for an event loop."""
    steps = _steps(job)
    if steps.get("do") == "odd":
        await _odd_end(steps["how"], job)
    wait_s = {"slow": steps.get("s", 1.0), "sum": 0.1, "hang": 3600.0}.get(steps.get("do", "ok"), 0.0)
    if wait_s:
        await asyncio.sleep(wait_s)
    return _act(job, steps)


@batch
def handle_batch(jobs: list[Job]) -> list[Any]:
    """The same, for all jobs of a batch in one call."""
    return [handle(job) for job in jobs]


class GpuFreedLate:
    """Its second and third start find no memory on the GPU; the file in the environment has a line for each start."""

    def setup(self) -> None:
        notes = Path(os.environ["GPU_NOTES"])
        before = len(notes.read_text().split()) if notes.exists() else 0
        with notes.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if before in (1, 2):
            raise RuntimeError("CUDA error: out of memory")

    def __call__(self, job: Job) -> Any:
        return None


class NeverReady:
    """A handler whose set-up always fails, by what would end a script."""

    def setup(self) -> None:
        sys.exit("the model is missing")

    def __call__(self, job: Job) -> None:
        raise AssertionError("never called")


class Careless:
    """A handler whose set-up fails with a password in its text."""

    def setup(self) -> None:
        raise ConnectionError("cannot reach amqp://user:careless-password@host")

    def __call__(self, job: Job) -> None:
        raise AssertionError("never called")


class CarelessAtTheEnd:
    """As `handle`; its end fails with the last text that it was told to fail with."""

    def __init__(self) -> None:
        self._text = "nothing was told"

    def __call__(self, job: Job) -> object:
        steps = job.payload if isinstance(job.payload, dict) else {}
        self._text = steps.get("text", self._text)
        return handle(job)

    def close(self) -> None:
        raise ConnectionError(self._text)
