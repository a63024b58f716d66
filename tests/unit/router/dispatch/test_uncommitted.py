"""Rows that wait for the store are bounded: no further batch goes out above the bound, and one always may."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.message.reply import Part
from rabbitray.actors.router.dispatch.uncommitted import UncommittedRows
from tests.kit.eventually import eventually
from tests.kit.fake_workers import FakeWorker
from tests.kit.plain_path import PlainPath
from tests.kit.result_rows import key_of, rows_of

MOST = 1_000


def part(size: int, jobs: int = 1) -> Part:
    return Part(rows=jobs, jobs=jobs, row_bytes=size)


def at_work(jobs: int) -> int:
    raise AssertionError(f"nobody counts the jobs at work ({jobs})")


def test_rows_that_wait_and_those_that_come_have_room_together() -> None:
    told: list[None] = []
    rows = UncommittedRows(MOST, on_room=lambda: told.append(None))
    assert rows.have_room(lambda: 10**9), "nothing is known of the results yet"
    first = part(300)
    rows.add(first)
    assert rows.have_room(lambda: 2)
    assert not rows.have_room(lambda: 3)
    assert not told
    rows.remove(first)
    assert len(told) == 1
    assert rows.have_room(lambda: 3)
    rows.remove(part(0))
    assert len(told) == 1, "nothing was held back"


def test_small_results_are_never_counted() -> None:
    rows = UncommittedRows(512 * 1024 * 1024, on_room=lambda: None)
    for _ in range(100):
        rows.add(part(50 * 500, jobs=50))
    assert rows.have_room(lambda: at_work(1))


def test_the_mean_follows_what_comes() -> None:
    rows = UncommittedRows(MOST, on_room=lambda: None)
    for size in [900] * 20 + [1] * 100:
        rows.add(one := part(size))
        rows.remove(one)
    assert rows.have_room(lambda: 500)


@given(sizes=st.lists(st.tuples(st.integers(0, 10 * MOST), st.integers(0, 20)), max_size=30))
def test_a_batch_may_run_whenever_nothing_waits_and_nothing_is_at_work(sizes: list[tuple[int, int]]) -> None:
    rows = UncommittedRows(MOST, on_room=lambda: None)
    for size, jobs in sizes:
        rows.add(one := part(size, jobs))
        rows.remove(one)
    assert rows.size == 0
    assert rows.have_room(lambda: 0)


def finish(worker: FakeWorker, batch: str, row_bytes: int) -> None:
    """All messages of the batch end with results of so many bytes together."""
    keys = [key_of(one) for one in worker.batches[batch]]
    places = list(range(len(keys)))
    told = Part(rows=len(keys), row_positions=places, finished=places, jobs=len(keys), row_bytes=row_bytes)
    worker.answer(batch, told, rows_of(keys, "q"))


async def test_nothing_goes_out_while_too_many_rows_wait_and_all_goes_on_with_the_commit() -> None:
    path = PlainPath(uncommitted_bytes=MOST)
    await path.start(workers=2, window=100, batch_size=1)
    path.store.hold()
    path.publish(*(f"k{n}" for n in range(8)))
    await eventually(lambda: len(path.running) == 4)
    for worker, batch in path.running[:2]:
        finish(worker, batch, MOST)  # each is as large as all that may wait
    await eventually(lambda: path.store.waiting == 2)
    assert len(path.running) == 2, "the other two go on, and none is added"
    for worker, batch in path.running:
        finish(worker, batch, 0)
    await eventually(lambda: path.store.waiting == 4)
    assert not path.running
    assert path.router.uncommitted.size == 2 * MOST
    path.store.release()
    await path.work()
    assert sorted(path.rows()) == sorted(f"k{n}" for n in range(8))
    assert path.router.uncommitted.size == 0
    await path.stop()


async def test_results_larger_than_all_that_may_wait_are_worked_one_batch_after_another() -> None:
    path = PlainPath(uncommitted_bytes=MOST)
    await path.start(workers=3, window=100, batch_size=1)
    path.publish(*(f"k{n}" for n in range(3)))
    await eventually(lambda: len(path.running) == 3)
    for worker, batch in path.running:
        finish(worker, batch, 10 * MOST)
    await eventually(lambda: len(path.rows()) == 3)
    path.publish(*(f"k{n}" for n in range(3, 9)))
    for done in range(3, 9):
        worker, batch = await path.batch()
        assert len(path.running) == 1
        finish(worker, batch, 10 * MOST)
        await eventually(lambda done=done: len(path.rows()) == done + 1)
    await path.stop()


async def test_rows_that_are_lost_or_refused_make_room_too() -> None:
    path = PlainPath(uncommitted_bytes=MOST)
    await path.start(workers=1, window=100, batch_size=1)
    path.store.fail_next(ValueError("the store has a fault"))
    path.publish("k0")
    worker, batch = await path.batch()
    finish(worker, batch, 10 * MOST)
    await path.work()
    assert path.rows() == {"k0": 1}
    assert path.router.uncommitted.size == 0
    await path.stop()
