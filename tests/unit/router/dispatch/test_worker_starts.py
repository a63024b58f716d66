"""Starting workers, beside the pool that wants them."""

from __future__ import annotations

import itertools
import time

import pyarrow as pa
import pytest

from rabbitray.actors.router.dispatch.member import ENVIRONMENT_FAILED, NO_GPU_MEMORY, LastEnd, Member
from rabbitray.actors.router.dispatch.worker_starts import GPU_TRIES, WorkerStarts, gpu_may_be_freed
from tests.kit.eventually import eventually
from tests.kit.fake_workers import FakeFactory


class Harness:
    """Starts over fake workers; `wanted` are to be there in all."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.factory = FakeFactory(auto=False)
        self.ready: list[Member[pa.Table]] = []
        self.ends = LastEnd()
        self.starts: WorkerStarts[pa.Table] = WorkerStarts(
            self.factory,
            names=(f"w-{number}" for number in itertools.count(1)),
            timeout_s=30.0,
            missing=lambda: self.wanted - len(self.ready) - len(self.starts.pending),
            on_ready=self.ready.append,
            ends=self.ends,
        )


async def test_a_worker_is_handed_over_once_it_is_ready() -> None:
    held = Harness(2)
    held.starts.fill()
    assert [(one.name, one.state, one.info) for one in held.starts.pending] == [
        ("w-1", "starting", None),
        ("w-2", "starting", None),
    ]
    held.factory.workers[1].started()
    await eventually(lambda: held.ready)
    assert [(one.name, one.state) for one in held.ready] == [("w-2", "ready")]
    assert held.ready[0].info is not None
    assert [one.name for one in held.starts.pending] == ["w-1"]
    assert held.starts.took_s is not None
    await held.starts.stop()
    assert held.factory.workers[0].killed
    assert held.starts.pending == []


async def test_after_the_pause_what_is_missing_by_then_is_asked_for() -> None:
    held = Harness(3)
    held.starts.fill()
    for worker in list(held.factory.workers):
        worker.fails_to_start("no database")
    await eventually(lambda: not held.starts.pending)
    assert "no database" in (held.starts.error or "")
    assert held.starts.again_in_s > 0
    held.wanted = 0
    await eventually(lambda: not held.starts.again_in_s, within_s=60)
    assert len(held.factory.workers) == 3, "nobody wants one any more"
    held.wanted = 2
    held.starts.fill()
    assert len(held.factory.workers) == 4, "one, to see whether it works"
    held.factory.workers[3].started()
    await eventually(lambda: len(held.factory.workers) == 5)
    assert held.starts.error is None
    await held.starts.stop()


async def test_a_worker_that_is_withdrawn_is_no_failed_start() -> None:
    held = Harness(1)
    held.starts.fill()
    held.wanted = 0
    held.starts.withdraw(held.starts.pending[0])
    held.factory.workers[0].started()
    await held.starts.stop()
    assert (held.ready, held.starts.pending, held.starts.error) == ([], [], None)
    await held.starts.stop()


@pytest.mark.parametrize(
    ("reason", "after_end_s", "tries", "again"),
    [
        (NO_GPU_MEMORY, 1.0, 0, True),
        (NO_GPU_MEMORY, -2.0, 0, True),  # the end came while it started
        (NO_GPU_MEMORY, 31.0, 0, False),  # nobody had it just now: the model is too large
        (NO_GPU_MEMORY, float("inf"), 0, False),
        (NO_GPU_MEMORY, 1.0, GPU_TRIES, False),
        ("start_failed", 1.0, 0, False),
    ],
)
def test_only_a_gpu_that_another_may_just_have_had_is_tried_again(
    reason: str, after_end_s: float, tries: int, again: bool
) -> None:
    assert gpu_may_be_freed(reason, after_end_s=after_end_s, tries=tries) is again


async def test_a_gpu_that_is_not_free_yet_is_no_failed_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rabbitray.actors.router.dispatch.worker_starts.GPU_AGAIN_S", 0.01)
    held = Harness(1)
    held.ends.at = time.monotonic()
    held.starts.fill()
    held.factory.workers[0].fails_to_start("CUDA out of memory", reason=NO_GPU_MEMORY)
    await eventually(lambda: len(held.factory.workers) == 2)
    assert (held.starts.failures, held.starts.error) == (0, None)
    held.factory.workers[1].started()
    await eventually(lambda: held.ready)
    await held.starts.stop()


async def test_a_gpu_that_stays_full_is_a_failed_start_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rabbitray.actors.router.dispatch.worker_starts.GPU_AGAIN_S", 0.01)
    held = Harness(1)
    held.ends.at = time.monotonic()
    held.starts.fill()
    for number in range(GPU_TRIES + 1):
        await eventually(lambda number=number: len(held.factory.workers) == number + 1)
        held.factory.workers[number].fails_to_start("CUDA out of memory", reason=NO_GPU_MEMORY)
    await eventually(lambda: held.starts.failures)
    assert "CUDA out of memory" in (held.starts.error or "")
    await held.starts.stop()


async def test_an_environment_that_cannot_be_built_is_not_tried_again_at_once() -> None:
    held = Harness(1)
    held.starts.fill()
    held.factory.workers[0].fails_to_start("no matching distribution", reason=ENVIRONMENT_FAILED)
    await eventually(lambda: held.starts.failures)
    assert held.starts.again_in_s > 50
    assert "no matching distribution" in (held.starts.error or "")
    await held.starts.stop()


async def test_what_an_environment_takes_is_no_time_of_the_start() -> None:
    held = Harness(1)
    held.starts.fill()
    [member] = held.starts.pending
    member.asked_at -= 100.0
    held.factory.workers[0].start_s = 2.0
    held.factory.workers[0].started()
    await eventually(lambda: held.ready)
    assert held.starts.took_s == 2.0
    assert held.starts.environment_s == pytest.approx(98.0, abs=1.0)
    await held.starts.stop()
