"""Starting workers, beside the pool that wants them."""

from __future__ import annotations

import itertools

import pyarrow as pa

from rabbitray.actors.router.dispatch.member import Member
from rabbitray.actors.router.dispatch.worker_starts import WorkerStarts
from tests.kit.eventually import eventually
from tests.kit.fake_workers import FakeFactory


class Harness:
    """Starts over fake workers; `wanted` are to be there in all."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.factory = FakeFactory(auto=False)
        self.ready: list[Member[pa.Table]] = []
        self.starts: WorkerStarts[pa.Table] = WorkerStarts(
            self.factory,
            names=(f"w-{number}" for number in itertools.count(1)),
            timeout_s=30.0,
            missing=lambda: self.wanted - len(self.ready) - len(self.starts.pending),
            on_ready=self.ready.append,
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
