"""What each store must do: the same suite on the DuckDB file and on the in-memory double."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rabbitray.actors.errors import FencedError, StoreUnavailableError
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.key_hash import is_same_message, kind_of
from rabbitray.actors.message.payload_hash import payload_hash
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.store import Store
from tests.kit.fake_store import FakeStore
from tests.kit.store_calls import calls_of
from tests.kit.store_rows import dead_rows, rows_of

AnyStore = Store | FakeStore


@pytest.fixture(params=["duckdb", "fake"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStore]:
    made: AnyStore = FakeStore()
    if request.param == "duckdb":
        made = Store(StoreConfig(path=tmp_path / "r.duckdb", dedupe_capacity=64 * 3))
    await made.open()
    yield made
    await made.close()


async def test_new_rows_are_committed(store: AnyStore) -> None:
    epoch = await store.register("a")
    answer = await store.write(epoch, rows_of(["a", "b"]))
    assert (answer.committed, answer.duplicates, answer.rejected) == (2, (), ())
    assert (await store.stats()).rows == 2


async def test_first_commit_of_a_key_wins(store: AnyStore) -> None:
    epoch = await store.register("a")
    await store.write(epoch, rows_of(["a", "b"]))
    answer = await store.write(epoch, rows_of(["c", "b", "c"]))
    assert answer.committed == 1
    assert answer.duplicates == (1, 2)


async def test_another_message_under_a_known_key_is_a_conflict(store: AnyStore) -> None:
    epoch = await store.register("a")
    await store.write(epoch, rows_of(["a", "b"], payload="mine"))
    again = await store.write(epoch, rows_of(["a", "b"], payload="mine"))
    assert (again.duplicates, again.conflicts) == ((0, 1), 0)
    for other in (rows_of(["a", "c"], payload="yours"), rows_of(["a", "d"], payload="mine", user_id="u2")):
        answer = await store.write(epoch, other)
        assert (answer.committed, answer.duplicates, answer.conflicts) == (1, (0,), 1)


async def test_rows_of_earlier_versions_conflict_by_type_and_user_alone(store: AnyStore) -> None:
    epoch = await store.register("a")
    await store.write(epoch, rows_of(["a"]))
    assert (await store.write(epoch, rows_of(["a"], payload="mine"))).conflicts == 0
    assert (await store.write(epoch, rows_of(["a"], payload="mine", user_id="u2"))).conflicts == 1


async def test_the_same_key_in_another_queue_is_another_job(store: AnyStore) -> None:
    epoch = await store.register("a")
    await store.write(epoch, rows_of(["a"], queue="jobs"))
    assert (await store.write(epoch, rows_of(["a"], queue="mail"))).committed == 1


async def test_rows_without_a_key_are_never_duplicates(store: AnyStore) -> None:
    epoch = await store.register("a")
    assert (await store.write(epoch, rows_of([None, None]))).committed == 2
    assert (await store.write(epoch, rows_of([None]))).committed == 1


async def test_keys_that_have_a_result_are_known_with_the_tag_of_their_message(store: AnyStore) -> None:
    """Before the next write, of their queue alone, in whatever order and number they are asked."""
    epoch = await store.register("a")
    keys = [f"k{n}" for n in range(10)]  # more than three segments of the real one
    await store.write(epoch, rows_of(keys, payload="mine"))
    await store.write(epoch, rows_of(["old", None]))
    hashed = payload_hash(Job(payload="mine"))
    mine, old = kind_of(None, "u1") ^ hashed, kind_of(None, "u1")
    assert await store.known("jobs", ["new", "k9", "k0", "k9", "old"]) == {1: mine, 2: mine, 3: mine, 4: old}
    assert await store.known("jobs", [*(f"n{n}" for n in range(2_000)), "k3"]) == {2_000: mine}
    assert await store.known("jobs", ["new"]) == await store.known("jobs", []) == await store.known("mail", keys) == {}
    assert is_same_message(mine, kind_of(None, "u1"), hashed)
    assert is_same_message(old, kind_of(None, "u1"), hashed), "a row of an earlier version has no hash of its payload"
    assert not is_same_message(mine, kind_of(None, "u1"), payload_hash(Job(payload="yours")))
    assert not is_same_message(mine, kind_of(None, "u2"), hashed)


async def test_failed_keys_that_have_a_result_are_named(store: AnyStore) -> None:
    epoch = await store.register("a")
    answer = await store.write(epoch, rows_of(["a"]), ["a", "zz"])
    assert answer.already == ("a",)
    answer = await store.write(epoch, rows_of([]), ["zz", "a"], queue="jobs")
    assert answer.already == ("a",)


async def test_failed_keys_need_a_queue(store: AnyStore) -> None:
    epoch = await store.register("a")
    with pytest.raises(ValueError, match="name the queue"):
        await store.write(epoch, rows_of([]), ["a"])


async def test_a_bad_row_is_rejected_alone(store: AnyStore) -> None:
    epoch = await store.register("a")
    bad = rows_of(["a", "b", "c"])
    queues = bad.column_names.index("queue")
    bad = bad.set_column(queues, bad.schema.field("queue"), [["jobs", None, "jobs"]])
    answer = await store.write(epoch, bad)
    assert answer.committed == 2
    assert [index for index, _ in answer.rejected] == [1]


async def test_a_later_router_ends_the_earlier(store: AnyStore) -> None:
    first = await store.register("a")
    second = await store.register("b")
    assert second > first
    with pytest.raises(FencedError):
        await store.write(first, rows_of(["a"]))
    with pytest.raises(FencedError):
        await store.record_dead_letters(first, dead_rows(["a"]))
    assert (await store.write(second, rows_of(["a"]))).committed == 1


async def test_control_keeps_the_newest_value(store: AnyStore) -> None:
    await store.set_control("paused", True)
    await store.set_control("fixed_size", 3)
    await store.set_control("paused", False)
    assert await store.control() == {"paused": False, "fixed_size": 3}


async def test_dead_letters_and_decisions_are_accepted(store: AnyStore) -> None:
    epoch = await store.register("a")
    await store.record_dead_letters(epoch, dead_rows(["x"]))
    await store.decide([{"pool": "p", "inputs": {"ready": 3}, "current": 1, "wanted": 2, "reason": "backlog"}])


async def test_a_closed_store_refuses_every_call(store: AnyStore) -> None:
    epoch = await store.register("a")
    await store.close()
    await store.close()
    for call in calls_of(store, epoch):
        with pytest.raises(StoreUnavailableError):
            await call


async def test_the_double_fails_and_holds_on_demand() -> None:
    fake = FakeStore()
    await fake.open()
    epoch = await fake.register("a")
    fake.fail_next(StoreUnavailableError("disk full"))
    with pytest.raises(StoreUnavailableError):
        await fake.write(epoch, rows_of(["a"]))
    assert (await fake.write(epoch, rows_of(["a"]))).committed == 1
