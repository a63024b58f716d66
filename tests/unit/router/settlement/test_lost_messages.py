"""A message that RabbitMQ will deliver again gets no copy, neither in a rung nor in the dead letters, and no row."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from rabbitray.actors.errors import RefusedError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.reply import Failure, Part
from rabbitray.actors.message.wire import pack
from rabbitray.actors.router.delivery import Batch, message_failure
from rabbitray.actors.router.settlement.retries import RetryLimits
from rabbitray.actors.router.settlement.settler import Settler
from rabbitray.actors.store.answers import Answer
from tests.kit.deliveries import delivery
from tests.kit.eventually import eventually
from tests.kit.fake_acks import FakeAcks
from tests.kit.fake_outbox import FakeOutbox
from tests.kit.plain_path import fails
from tests.kit.virtual_time import in_virtual_time


class Held:
    """A settler over fakes; `buried`: the rows of dead letters."""

    def __init__(self, *lost: int) -> None:
        self.acks, self.outbox = FakeAcks(), FakeOutbox()
        self.acks.lost = set(lost)
        self.buried: list[dict[str, Any]] = []
        self.settler = Settler(
            RetryLimits(), "q", acks=self.acks, outbox=self.outbox, record_dead_letters=self._record_dead_letters
        )

    async def _record_dead_letters(self, rows: pa.Table) -> None:
        self.buried += rows.to_pylist()


def batch_of(count: int) -> Batch:
    return Batch([delivery(tag) for tag in range(1, count + 1)])


def failed(*failures: Failure) -> Part:
    return Part(failures=list(failures), finished=[one.position for one in failures], jobs=len(failures))


async def test_what_failed_while_its_channel_died_is_left_out() -> None:
    held = Held(1, 3)
    part = failed(fails(0, "k0"), fails(1, "k1"), fails(2, "k2", verdict="dead"), fails(3, "k3", verdict="dead"))
    await held.settler.settle(batch_of(4), part, Answer())
    assert [one.tag for one, _, _ in held.outbox.retried] == [2]
    assert [one.tag for one, _, _ in held.outbox.parked] == [4]
    assert [row["key"] for row in held.buried] == ["k3"]
    assert (held.settler.tally.retried, held.settler.tally.dead) == (1, 1)
    assert held.acks.acked == [2, 4], "the channel that is given up may still take an ack"


async def test_a_row_that_the_store_refused_is_no_dead_letter_of_a_lost_message() -> None:
    held = Held(1)
    part = Part(rows=1, row_positions=[0], finished=[0], jobs=1)
    await held.settler.settle(batch_of(1), part, Answer(rejected=((0, "too long"),)))
    assert (held.outbox.parked, held.buried) == ([], [])


async def test_a_lost_message_is_neither_parked_nor_put_off_nor_taken_apart() -> None:
    held = Held(1)
    packed, _ = pack([Job(id="a"), Job(id="b")])
    one = delivery(1, packed, content_type=h.PACKED, due_ms=32_000_000_000_000)
    await held.settler.park(one, message_failure(one, "r", "e", "E"))
    await held.settler.whole.postpone(one)
    await held.settler.whole.take_apart(one)
    assert (held.outbox.parked, held.outbox.retried, held.outbox.singled, held.buried) == ([], [], [], [])


@in_virtual_time
async def test_a_message_that_is_given_back_gets_no_copy_of_a_later_part_either() -> None:
    held, batch = Held(), batch_of(1)
    held.outbox.failures.append(RefusedError("full"))
    first = Part(failures=[fails(0, "k0")], open=1, jobs=2)
    unsafe = await held.settler.settle(batch, first, Answer())
    await held.settler.settle(batch, failed(fails(0, "k1", verdict="dead")), Answer(), unsafe)
    assert (held.outbox.parked, held.buried) == ([], [])
    await eventually(lambda: held.acks.returned == [1])
