"""Where a job failed or stands: the user's frames, the innermost cause first, bounded, without values."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rabbitray.actors.secret import Redactor, Secret
from rabbitray.actors.worker.fork_guard import ForkGuard
from rabbitray.actors.worker.outcome.result_json import result_json
from rabbitray.actors.worker.outcome.tracebacks import FRAMES_MOST, NO_TRACE, TEXT_MOST, Trace, Tracebacks

HERE = Path(__file__).relative_to(Path.cwd()) if Path(__file__).is_relative_to(Path.cwd()) else Path(__file__)


def caught(call: Callable[..., Any], *arguments: object) -> BaseException:
    """What a handler's call raises, with our own frame above it."""
    with pytest.raises(BaseException) as raised:  # noqa: PT011 # whatever it is
        ForkGuard().call(call, *arguments)
    return raised.value


async def caught_async(call: Callable[[Any], Any], within_s: float = 5.0) -> BaseException:
    try:
        async with asyncio.timeout(within_s):
            await ForkGuard().wait(call, None)
    except BaseException as error:  # noqa: BLE001 # whatever it is
        return error
    raise AssertionError("it raised nothing")


def trace_of(error: BaseException) -> Trace:
    return Tracebacks().of(error)


def functions(trace: Trace) -> list[str]:
    """What stands for the frames, in order; other lines as they are."""
    return [line.partition(" in ")[2].partition(":")[0] or line for line in trace.text.splitlines()]


def line_of(mark: str) -> int:
    """The line of this file that ends so."""
    [found] = [n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if line.endswith(f"# {mark}")]
    return found


def looks_up(accounts: dict[str, int]) -> int:
    return accounts["the user's name"]  # here


def handler(job: object) -> int:
    return looks_up({})


def wraps(job: object) -> int:
    try:
        return looks_up({})
    except KeyError as error:
        raise ValueError("no such user") from error


def goes_deep(left: int) -> int:
    return goes_deep(left - 1) if left else int("x")


def test_the_frames_of_the_handler_are_told_and_not_ours() -> None:
    trace = trace_of(caught(handler, None))
    place = f"{HERE}:{line_of('here')}"
    assert functions(trace) == ["handler", "looks_up"]
    assert trace.place == place
    assert trace.text.endswith(f'{place} in looks_up: return accounts["the user\'s name"]  # here')
    assert "fork_guard" not in trace.text


def test_the_cause_comes_first_and_the_place_is_its_own() -> None:
    trace = trace_of(caught(wraps, None))
    assert functions(trace) == ["KeyError, at", "wraps", "looks_up", "and then ValueError, at", "wraps"]
    assert trace.place.endswith(f":{line_of('here')}")
    assert "no such user" not in trace.text.replace('raise ValueError("no such user") from error', "")


def test_what_was_suppressed_is_not_told() -> None:
    def hides(job: object) -> None:
        try:
            looks_up({})
        except KeyError:
            raise ValueError from None

    assert functions(trace_of(caught(hides, None))) == ["test_what_was_suppressed_is_not_told.<locals>.hides"]


def test_a_stack_of_any_depth_is_bounded() -> None:
    trace = trace_of(caught(goes_deep, 800))
    lines = trace.text.splitlines()
    assert len(lines) == FRAMES_MOST + 1
    assert lines[1] == f"... {801 - FRAMES_MOST} more"
    assert lines[-1].endswith('int("x")')
    assert len(trace.text) <= TEXT_MOST


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = caught(handler, None), caught(goes_deep, 1)
    first.__cause__, second.__cause__ = second, first
    assert functions(trace_of(first))[-1] == "looks_up"


@pytest.mark.parametrize("error", [ValueError("never raised"), ExceptionGroup("g", [ValueError()])])
def test_an_error_without_frames_has_no_trace(error: Exception) -> None:
    assert trace_of(error) == NO_TRACE


def test_an_error_that_we_raise_has_no_trace() -> None:
    assert trace_of(caught(result_json, object())) == NO_TRACE


async def test_a_cancelled_coroutine_is_told_where_it_stood() -> None:
    async def waits() -> None:
        await asyncio.sleep(60)

    async def handle(_: object) -> None:
        await waits()

    error = await caught_async(handle, 0.05)
    trace = trace_of(error.__cause__ or error)
    assert [name.rpartition(".")[2] for name in functions(trace)] == ["handle", "waits", "sleep"]
    assert trace.place.startswith(str(HERE)), "the line of the user's, not asyncio's"


async def test_the_first_of_a_group_is_told() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        looks_up({})

    async def handle(_: object) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            group.create_task(asyncio.sleep(60))

    trace = trace_of(await caught_async(handle))
    assert functions(trace)[:3] == ["KeyError, at", "test_the_first_of_a_group_is_told.<locals>.fails", "looks_up"]
    assert trace.place.endswith(f":{line_of('here')}")


async def test_a_coroutine_that_is_woken_by_an_error_has_all_its_frames() -> None:
    async def fails() -> None:
        looks_up({})

    async def handle(_: object) -> None:
        task = asyncio.ensure_future(fails())
        await asyncio.sleep(0.01)
        await task

    names = [name.rpartition(".")[2] for name in functions(trace_of(await caught_async(handle)))]
    assert names == ["handle", "fails", "looks_up"]


def test_where_a_thread_stands() -> None:
    standing, ended = threading.Event(), threading.Event()

    def waits() -> None:
        standing.set()
        ended.wait(10)

    thread = threading.Thread(target=ForkGuard().call, args=(waits,))
    thread.start()
    standing.wait(10)
    told = Tracebacks().of_thread(thread.ident)
    ended.set()
    thread.join()
    assert functions(Trace(told))[0] == "test_where_a_thread_stands.<locals>.waits"
    assert "threading.py" in told.splitlines()[-1]
    assert Tracebacks().of_thread(thread.ident) == Tracebacks().of_thread(None) == ""


def test_a_secret_in_the_source_is_hidden_and_a_hostile_name_is_shown_as_an_escape(tmp_path: Path) -> None:
    source = tmp_path / "shop.py"
    source.write_text('def handle(job):\n    return {}["geheimnis-4711"]\n')
    space: dict[str, Any] = {}
    exec(compile(source.read_text(), str(source), "exec"), space)
    space["handle"].__code__ = space["handle"].__code__.replace(co_qualname="handle\x1b[2J\n\ud800")
    made = Tracebacks(Redactor(Secret("geheimnis-4711")))
    text = made.of(caught(space["handle"], None)).text
    assert text.endswith('shop.py:2 in handle\\x1b[2J\n\\ud800: return {}["***"]')
    assert text.encode()


def test_a_class_whose_attributes_raise_costs_nothing_but_its_trace() -> None:
    class Odd(Exception):
        @property
        def __traceback__(self) -> Any:  # type: ignore[override]
            raise SystemExit(3)

    assert Tracebacks().of(Odd()) == NO_TRACE


@pytest.mark.parametrize("file", ["<string>", "/dev/zero", "/nowhere/at/all.py", ""])
def test_code_without_a_source_file_is_told_without_its_line(file: str) -> None:
    space: dict[str, Any] = {}
    exec(compile("def handle(job):\n    return 1 / 0", file, "exec"), space)
    trace = Tracebacks().of(caught(space["handle"], None))
    assert trace.text.endswith(":2 in handle")


def test_what_is_kept_is_bounded_and_no_file_stays_in_memory(tmp_path: Path) -> None:
    import linecache

    source = tmp_path / "many.py"
    source.write_text("".join(f"def h{n}(job): return 1 / 0\n" for n in range(3_000)))
    space: dict[str, Any] = {}
    exec(compile(source.read_text(), str(source), "exec"), space)
    made = Tracebacks()
    for n in range(0, 3_000, 3):
        assert f"many.py:{n + 1} in h{n}" in made.of(caught(space[f"h{n}"], None)).text
    assert len(made._made) <= 256
    assert len(made._lines) <= 2_048
    assert str(source) not in linecache.cache


def test_an_installed_handler_is_the_user_s_own_code_and_a_library_is_not(tmp_path: Path) -> None:
    shop = tmp_path / "site-packages" / "shop"
    shop.mkdir(parents=True)
    (tmp_path / "site-packages" / "driver.py").write_text("def query():\n    raise OSError\n")
    (shop / "__init__.py").write_text("import driver\n\n\ndef handle(job):\n    driver.query()\n")
    script = (
        "from shop import handle\n"
        "from rabbitray.actors.worker.fork_guard import ForkGuard\n"
        "from rabbitray.actors.worker.outcome.tracebacks import Tracebacks\n"
        "try: ForkGuard().call(handle, 1)\n"
        "except OSError as error: print(Tracebacks().of(error))\n"
    )
    paths = f"{tmp_path / 'site-packages'}:{Path.cwd()}"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )
    assert "place='shop/__init__.py:5'" in done.stdout
    assert "driver.py:2 in query: raise OSError" in done.stdout
