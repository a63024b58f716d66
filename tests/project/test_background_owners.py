"""Every background task and thread of the house has an owner that logs what ends it and acts.

The source is read, so that a new one without an owner shows here. What must go on is killed by name in
tests/unit/test_kept_work.py.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.kit.root import ROOT
from tests.unit.test_kept_work import KILLED

BEGINS: Final = {"create_task", "ensure_future", "run_coroutine_threadsafe", "Thread", "Timer", "spawn", "keep"}
"""What begins a task or a thread. The calls of executors return a future, which their caller awaits."""

AWAITED: Final = {
    "actors/publisher/large.py:LargePublisher._step": "awaited there, or cancelled with the loss as the error",
    "actors/publisher/pipeline.py:Pipeline._serve": "awaited there; its error is the reason of the loss",
    "actors/publisher/sync.py:_Room.call": "its result is awaited there",
    "actors/router/actor.py:ConsumerRouter.watch": "awaited there: two events",
    "actors/router/dispatch/workers.py:RayWorker.node_leaves": "awaited by all who ask, and its error by each of them",
    "actors/store/queries/front.py:Queries._export": "awaited there; its error is the query's, which was told already",
    "actors/store/queries/front.py:Queries.stream": "awaited there",
    "actors/worker/handler/decoder.py:Reader.in_its_thread": "awaited there",
    "cluster/commands/top.py:Screen.run": "the screen ends with it, and raises what it raised",
    "cluster/driver/driver.py:Driver._until_end": "awaited there; the run ends with the first, and raises its error",
    "cluster/publish/feed.py:_chunks.hand_over": "its result is awaited there",
    "cluster/publish/pump.py:filled": "awaited there",
    "cluster/submit/follow.py:follow": "awaited there, or cancelled where a Ctrl-C leaves the job",
    "cluster/submit/follow.py:interrupted": "cancelled there: an event",
    "cluster/submit/submit.py:submit": "awaited there, or cancelled where a Ctrl-C comes first",
}
"""Tasks with somebody who awaits them, and so meets their errors."""

THREADS: Final = {
    "actors/publisher/sync.py:_Room.__init__": "an event loop; each step of it gives its error to a future",
    "actors/remote/gcs.py:require_gcs": "gives its answer or its error to a future",
    "actors/store/queries/file.py:_ended_after": "one call, which ends a query",
    "actors/store/read_only.py:_interrupted_after": "interrupts a query; joined there",
    "actors/worker/handler/thread.py:HandlerThread.call": "each call gives its error to a future that is awaited",
    "cluster/publish/feed.py:_chunks": "hands its error over in place of the next chunk",
    "cluster/submit/address.py:_told_by_gcs": "gives its answer to a future, and None for an error: a URL is tried",
    "cluster/telemetry/shutdown.py:Shutdown.__init__": "logs its error and tells that the end was not whole",
}

STEPS: Final = {
    "actors/background.py:BackgroundTasks.spawn": "the owner itself",
    "actors/background.py:BackgroundTasks.keep": "the owner itself",
    "actors/remote/calls.py:WakeAutoscaler.delivered": "the next lull wakes it again",
    "actors/router/dispatch/pool.py:Pool._end": "kills the worker",
    "actors/router/dispatch/pool.py:Pool._join": "what the worker then gets tells of its end",
    "actors/router/dispatch/worker_starts.py:WorkerStarts._ask": "a failed start is tried again",
    "actors/router/intake/consumer.py:Intake._adopt": "marks the channel as lost; the watch opens the next one",
    "actors/router/router.py:Router._run": "gives the messages of the batch back",
    "actors/router/router.py:Router._tend_probes": "the next look tries it again",
    "actors/router/router.py:Router.drain": "the end of its connection ends the consumer",
    "actors/router/router.py:Router.receive": "gives the message back; the next delivery stops the probe again",
    "actors/router/router.py:Router.work": "gives the messages of the part back",
    "actors/router/settlement/dropped.py:Collector._take": "gives the message back",
    "actors/router/upkeep.py:Upkeep.run_once": "the next look asks again",
    "actors/store/commit/group_commit.py:GroupCommit.submit": "each caller gets the error; the next call begins anew",
    "actors/worker/worker.py:Worker._first": "the router takes a batch without progress for hung, and ends the worker",
}
"""Work that ends by itself, under BackgroundTasks, which logs its error; and what acts on it then."""

KEPT: Final = {
    "publisher-connection",  # killed in tests/broker/test_publisher_losses.py
    "router-upkeep",
    "router-metrics",
    "intake-watch",
    "intake-late-frames",
    "worker-usage",
    "worker-metrics",
    "autoscale-loop",
    "supervise-",
}
"""Work that must go on, under BackgroundTasks.keep, which begins it again."""


@functools.cache
def begun() -> list[tuple[str, str, ast.Call]]:
    """What begins a task or thread: what is called, where, and the call."""
    files = [path for floor in ("actors", "autoscale", "cluster") for path in sorted((ROOT / floor).rglob("*.py"))]
    trees = [(ast.parse(path.read_text()), path.relative_to(ROOT)) for path in files]
    return [call for tree, place in trees for call in _calls(tree, place, ())]


def _calls(node: ast.AST, place: Path, within: tuple[str, ...]) -> Iterator[tuple[str, str, ast.Call]]:
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if isinstance(child, ast.Call):
            called = child.func.attr if isinstance(child.func, ast.Attribute) else getattr(child.func, "id", "")
            if called in BEGINS:
                yield called, f"{place}:{'.'.join(within)}", child
        yield from _calls(child, place, (*within, child.name) if named else within)  # type: ignore[attr-defined]


def test_each_task_and_thread_has_an_owner() -> None:
    found = begun()
    places = {called: {where for what, where, _ in found if what == called} for called in BEGINS}
    tasks = places["create_task"] | places["ensure_future"] | places["run_coroutine_threadsafe"]
    owner = "actors/background.py:BackgroundTasks.spawn"
    assert tasks - {owner} == set(AWAITED), "use BackgroundTasks, or say here who awaits it"
    assert places["Thread"] | places["Timer"] == set(THREADS), "say here what becomes of its errors"
    assert places["spawn"] | {owner} == set(STEPS), "say here what acts on an error of this step"


def test_what_must_go_on_is_named_and_is_killed_by_a_test() -> None:
    names = {_name(call) for called, _, call in begun() if called == "keep"}
    assert names == KEPT
    assert {name.rstrip("-") for name in KEPT - {"publisher-connection"}} == KILLED


def _name(call: ast.Call) -> str:
    """The name of a kept task; of one with a changing end, what it begins with."""
    (given,) = [keyword.value for keyword in call.keywords if keyword.arg == "name"]
    first = given.values[0] if isinstance(given, ast.JoinedStr) else given
    assert isinstance(first, ast.Constant)
    return str(first.value)
