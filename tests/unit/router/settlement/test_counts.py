"""The counts add up: whatever worker, store and broker say, each outcome and each message is in exactly one."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.errors import PayloadLostError, RefusedError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.reply import Failure, Part
from rabbitray.actors.message.wire import pack
from rabbitray.actors.router.consumption import Consumption
from rabbitray.actors.router.delivery import Batch, Delivery, message_failure
from rabbitray.actors.router.holds.outage import Outage, OutageLimits
from rabbitray.actors.router.settlement.conclusion import BatchSafety, Concluder
from rabbitray.actors.router.settlement.failpoints import Failpoints
from rabbitray.actors.router.settlement.retries import RetryLimits
from rabbitray.actors.router.settlement.settler import Settler
from rabbitray.actors.router.status import Counts
from tests.kit.deliveries import delivery
from tests.kit.fake_acks import FakeAcks
from tests.kit.fake_outbox import FakeOutbox
from tests.kit.fake_recorder import FakeRecorder
from tests.kit.fake_store import FakeStore
from tests.kit.result_rows import rows_of
from tests.kit.virtual_time import in_virtual_time

KNOWN = "known"
REJECTED = "rejected"
VERDICTS = ("done", "duplicate", "skipped", "rejected", "retry", "dead", "retry of a known key", "dead of a known key")
ALONE = ("stray", "not due", "refused", "taken apart")


class Consumer:
    """Takes what the consumption asks."""

    async def consume(self, window: int) -> None: ...
    async def pause(self) -> None: ...


@dataclass
class Settling:
    """The end of the path over fakes, and how many outcomes it was told."""

    told: int = 0
    acks: FakeAcks = field(default_factory=FakeAcks)
    outbox: FakeOutbox = field(default_factory=FakeOutbox)
    store: FakeStore = field(default_factory=FakeStore)
    tags: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def open(self) -> None:
        recorder = FakeRecorder(self.store)
        await self.store.open()
        recorder.epoch = await self.store.register("router")
        await self.store.write(recorder.epoch, rows_of([KNOWN]))
        self.store.reject_keys.add(REJECTED)
        record = recorder.record_dead_letters
        self.settler = Settler(RetryLimits(), "q", acks=self.acks, outbox=self.outbox, record_dead_letters=record)
        consumption = Consumption(Consumer(), on_hold=lambda: None, on_consume=lambda: None)
        outage = Outage(OutageLimits(least=5))
        self.concluder: Concluder[pa.Table] = Concluder(
            recorder, self.settler, Failpoints(""), consumption, outage, time.monotonic
        )

    async def work(self, messages: list[list[str]], *, lost: bool) -> None:
        """A batch with so many jobs in each message; each part holds the next job of every message."""
        batch = Batch([delivery(next(self.tags), records=len(jobs)) for jobs in messages])
        safety = BatchSafety(batch)
        if lost:
            self.store.fail_next(PayloadLostError("its node died"))
        for record in range(max(map(len, messages))):
            keys: list[str] = []
            part = Part(row_positions=[], row_records=[], failures=[], finished=[])
            for position, jobs in enumerate(messages):
                if record < len(jobs):
                    self.add(part, keys, jobs[record], position, record)
                if record == len(jobs) - 1:
                    part.finished.append(position)
            part.jobs = part.rows + part.skipped + len(part.failures)
            self.told += part.jobs
            await self.concluder.conclude(safety, part, rows_of(keys))

    def add(self, part: Part, keys: list[str], verdict: str, position: int, record: int) -> None:
        """One outcome."""
        if verdict == "skipped":
            part.skipped += 1
            return
        fresh = f"job-{next(self.tags)}"
        if verdict in ("done", "duplicate", "rejected"):
            keys.append({"duplicate": KNOWN, "rejected": REJECTED}.get(verdict, fresh))
            part.rows += 1
            part.row_positions.append(position)
            part.row_records.append(record)
            return
        part.failures.append(
            Failure(
                position=position,
                record=record,
                verdict="retry" if verdict.startswith("retry") else "dead",
                reason="exception",
                error="x",
                error_class="ConnectionError",
                category="transient",
                key=KNOWN if verdict.endswith("known key") else fresh,
            )
        )

    async def settle_alone(self, kind: str) -> None:
        """A message that no worker gets."""
        tag = next(self.tags)
        match kind:
            case "stray":
                self.settler.whole.discard(delivery(tag, stray=True))
            case "not due":
                await self.settler.whole.postpone(delivery(tag, due_ms=2**41))
            case "refused":
                self.told += 1
                await self.settler.park(delivery(tag), message_failure(delivery(tag), "too_large", "x", "X"))
            case "taken apart":
                await self.settler.whole.take_apart(packed(tag))

    def counts(self) -> Counts:
        return self.settler.tally.counts()


def packed(tag: int) -> Delivery:
    body, _ = pack([Job(id=str(n)) for n in range(3)])
    return delivery(tag, body, content_type=h.PACKED, records=3)


batches = st.tuples(
    st.lists(st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=3), min_size=1, max_size=6), st.booleans()
)
steps = st.lists(st.sampled_from(ALONE) | batches, max_size=8)
unconfirmed = st.lists(st.booleans(), max_size=40)
gone = st.sets(st.integers(1, 60), max_size=8)


@given(steps, unconfirmed, gone, st.booleans())
def test_every_outcome_and_every_message_is_counted_once(
    steps: list[str | tuple[list[list[str]], bool]], unconfirmed: list[bool], gone: set[int], packed: bool
) -> None:
    """Of jobs always; of messages where each is one job."""
    settling = asyncio.run(settled(steps, unconfirmed, gone, packed=packed))
    counts = settling.counts()
    assert settling.told == counts.outcomes + counts.again, counts
    thrown_away = sum(tag in gone for tag in settling.acks.acked)  # of an ended connection: they are delivered again
    assert counts.acked == len(settling.acks.acked) - thrown_away
    if not packed:
        assert counts.acked == counts.acked_of_one_job - thrown_away, counts


async def settled(
    steps: list[str | tuple[list[list[str]], bool]], unconfirmed: list[bool], gone: set[int], *, packed: bool
) -> Settling:
    settling = Settling()
    await settling.open()
    settling.acks.lost = gone
    settling.outbox.failures.extend(RefusedError("full") if one else None for one in unconfirmed)
    for step in steps:
        if isinstance(step, str):
            await settling.settle_alone(step)
        else:
            messages, lost = step
            await settling.work(messages if packed else [jobs[:1] for jobs in messages], lost=lost)
    return settling


@pytest.mark.parametrize("verdict", ["retry of a known key", "dead of a known key"])
async def test_what_fails_under_a_key_that_has_its_result_is_a_duplicate(verdict: str) -> None:
    settling = Settling()
    await settling.open()
    await settling.work([[verdict]] * 70, lost=False)
    assert settling.counts() == Counts(duplicates=70, acked=70)


@in_virtual_time
async def test_what_is_not_safe_counts_again_and_nowhere_else() -> None:
    settling = Settling()
    await settling.open()
    settling.outbox.failures.append(RefusedError("full"))
    await settling.work([["retry"], ["done"]], lost=False)
    await settling.work([["done"], ["dead"]], lost=True)
    assert settling.counts() == Counts(done=1, acked=1, again=3)


async def test_a_message_that_was_taken_apart_is_counted() -> None:
    settling = Settling()
    await settling.open()
    await settling.settle_alone("taken apart")
    assert settling.counts() == Counts(split=1, acked=1)
