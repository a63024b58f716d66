"""Keys that a worker read in bodies stay with their messages, whatever becomes of the worker. The router over fakes.

Real processes die in tests/pool/test_path.py and tests/pool/test_crashes.py.
"""

from __future__ import annotations

import json
from typing import Any

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.keys import parse_key_rule
from rabbitray.actors.message.reply import Part
from rabbitray.actors.message.wire import pack
from tests.kit.eventually import eventually
from tests.kit.fake_workers import FakeWorker
from tests.kit.plain_path import PlainPath, fails
from tests.kit.result_rows import rows_of

RULE = parse_key_rule("body:/id")


async def started(**own: Any) -> PlainPath:
    path = PlainPath(rule=RULE, **own)
    await path.start()
    return path


def publish(path: PlainPath, *ids: str) -> None:
    """Documents with these ids, and message ids that are no keys."""
    for name in ids:
        path.broker.publish(json.dumps({"id": name}).encode(), message_id=f"m-{name}")


def tells(worker: FakeWorker, batch: str) -> None:
    """The worker has read the keys of a batch."""
    names = [json.loads(one.body)["id"] for one in worker.batches[batch]]
    worker.answer(batch, Part(keys={at: [name] for at, name in enumerate(names)}, open=len(names)))


async def told(path: PlainPath) -> tuple[FakeWorker, str]:
    """The next batch, once its keys are told."""
    worker, batch = await path.batch()
    tells(worker, batch)
    await eventually(lambda: worker.asked[batch] == 2)
    return worker, batch


async def test_one_that_ends_its_workers_is_parked_under_its_key() -> None:
    path = await started()
    publish(path, "k0")
    for _ in range(3):  # among others, and twice alone
        worker, _ = await told(path)
        worker.die()
    [row] = await eventually(lambda: path.store.dead)
    assert (row["key"], row["message_id"], row["reason"]) == ("k0", "m-k0", "worker_crashed")
    [copy] = path.broker.queues[path.topology.dead_queue]
    assert (copy.headers[h.KEY], copy.message_id) == ("k0", "m-k0")
    assert path.crashes == {}, "its count is kept under one name, told or not"
    await path.stop()


async def test_one_whose_workers_end_before_they_tell_has_no_key_until_a_worker_reads_it_at_the_replay() -> None:
    path = await started()
    publish(path, "k0")
    for _ in range(3):
        worker, _ = await path.batch()
        worker.die()
    [row] = await eventually(lambda: path.store.dead)
    assert (row["key"], row["message_id"]) == (None, "m-k0"), "the message id is no key here"
    [copy] = path.broker.queues[path.topology.dead_queue]
    assert h.KEY not in copy.headers
    path.broker.publish(copy.body, {h.ATTEMPT: 0, h.REPLAYS: 1}, message_id=copy.message_id)
    worker, batch = await path.batch()
    assert [parcel.key for parcel in worker.batches[batch]] == [None]
    await path.stop()


async def test_one_that_was_told_once_is_parked_under_its_key_also_when_later_workers_end_earlier() -> None:
    path = await started()
    publish(path, "k0")
    worker, _ = await told(path)
    worker.die()
    for _ in range(2):
        worker, _ = await path.batch()
        worker.die()
    await eventually(lambda: path.store.dead)
    assert path.dead() == ["k0"]
    assert [row["key"] for row in path.store.dead] == ["k0"]
    await path.stop()


async def test_the_records_of_a_packed_message_are_taken_apart_under_their_keys() -> None:
    path = await started()
    body, content_type = pack([Job(id=f"own-{n}", payload={"id": f"k{n}"}) for n in range(3)])
    path.broker.publish(body, message_id="m", content_type=content_type)
    worker, batch = await path.batch()
    worker.answer(batch, Part(keys={0: ["k0", None, "k2"]}, open=3))
    await eventually(lambda: worker.asked[batch] == 2)
    worker.die()
    ran: dict[str | None, str] = {}
    while len(ran) < 3:
        worker, batch = await path.batch()
        ran |= {parcel.key: worker.name for parcel in worker.batches[batch]}
        worker.done(batch)
        await eventually(lambda worker=worker, batch=batch: batch not in worker.batches)
    assert ran.keys() == {"k0", None, "k2"}, "no record has its own id for a key"
    assert [ran[key].startswith("qu-") for key in ("k0", "k2")] == [True, True], "suspects by their keys"
    await path.stop()


async def test_a_row_that_the_store_refuses_is_parked_under_its_key() -> None:
    path = await started()
    path.store.reject_keys.add("k0")
    publish(path, "k0")
    worker, batch = await told(path)
    worker.answer(batch, Part(rows=1, row_positions=[0], finished=[0], jobs=1), rows_of(["k0"]))
    await eventually(lambda: path.store.dead)
    assert path.dead() == ["k0"]
    assert [(row["key"], row["reason"]) for row in path.store.dead] == [("k0", "store_rejected")]
    await path.stop()


async def test_a_worker_that_has_told_keys_is_not_taken_for_a_slow_one() -> None:
    """A second batch waits in its line, so that it does not idle between the two."""
    path = PlainPath(rule=RULE, max_in_flight=2)
    await path.start(batch_size=1)
    publish(path, "k0", "k1", "k2")
    worker, first = await told(path)
    await eventually(lambda: len(worker.batches) == 2)
    assert path.pool.members[0].slow == {}
    second = next(batch for batch in worker.batches if batch != first)
    tells(worker, second)
    for batch, name in ((first, "k0"), (second, "k1")):
        worker.answer(batch, Part(rows=1, row_positions=[0], finished=[0], jobs=1), rows_of([name]))
    await eventually(lambda: path.rows() == {"k0": 1, "k1": 1})
    await path.stop()


async def test_a_retry_carries_the_key() -> None:
    path = await started()
    publish(path, "k0")
    worker, batch = await told(path)
    worker.answer(batch, Part(failures=[fails(0, "k0")], finished=[0], jobs=1))
    await eventually(lambda: path.in_rungs() == ["k0"])
    await path.stop()
