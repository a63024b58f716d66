"""A message near the delivery limit of its queue: a fresh copy takes its place, or it is worked as it is."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from rabbitray.actors.errors import RefusedError
from rabbitray.actors.message.headers import JOB_JSON
from rabbitray.actors.message.keys import parse_key_rule
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.settlement.retries import RetryLimits
from rabbitray.actors.router.settlement.settler import Settler
from tests.kit.deliveries import delivery
from tests.kit.eventually import eventually
from tests.kit.fake_acks import FakeAcks
from tests.kit.fake_outbox import FakeOutbox
from tests.kit.plain_path import PlainPath


class Settling:
    """A settler over fakes; `log`: what happened, in order."""

    def __init__(self, **own: Any) -> None:
        self.log: list[str] = []
        self.acks, self.outbox = FakeAcks(self.log), FakeOutbox(self.log)
        self.settler = Settler(
            RetryLimits(), "q", acks=self.acks, outbox=self.outbox, record_dead_letters=self._record, **own
        )

    async def _record(self, rows: pa.Table) -> None:
        raise AssertionError("nothing is a dead letter here")


async def test_the_copy_is_confirmed_before_the_message_is_acked() -> None:
    settling = Settling()
    assert await settling.settler.whole.renew(delivery(1))
    assert settling.log == ["renew 1 confirmed", "ack 1"]
    counts = settling.settler.tally.counts()
    assert (counts.renewed, counts.acked, counts.acked_of_one_job) == (1, 1, 1)


@pytest.mark.parametrize("error", [RefusedError("the queue is full"), KeyError("unforeseen")])
async def test_a_copy_that_is_not_confirmed_leaves_the_message_to_be_worked(error: Exception) -> None:
    settling = Settling()
    settling.outbox.failures.append(error)
    assert not await settling.settler.whole.renew(delivery(1))
    assert settling.acks.acked == settling.acks.returned == []
    assert settling.settler.tally.renewed == 0


async def test_one_of_a_lost_connection_gets_no_copy() -> None:
    settling = Settling()
    settling.acks.lost = {1}
    assert await settling.settler.whole.renew(delivery(1))
    assert settling.log == []


async def test_a_key_may_stand_in_the_body_alone_and_without_one_there_is_no_copy() -> None:
    settling = Settling()
    assert await settling.settler.whole.renew(
        delivery(1, b'{"i":"own","t":"B"}', message_id=None, content_type=JOB_JSON)
    )
    assert not await settling.settler.whole.renew(delivery(2, b'{"x":1}', message_id=None))
    assert settling.acks.acked == [1]


class NearLimit(PlainPath):
    """Every message comes near the limit of its queue, whose broker counts give-backs or does not."""

    def __init__(self, *, counted: bool) -> None:
        self.counted = counted
        self.asked = 0
        super().__init__()
        settler: Any = self.settler
        settler.whole.renew = self._renew

    def _intake(self) -> Any:
        intake = super()._intake()
        kind = type("Intake", (type(intake),), {"counts_returns": property(lambda _: self.counted)})
        intake.__class__ = kind
        return intake

    async def _renew(self, _: Delivery) -> bool:
        self.asked += 1
        return False

    def _receive(self, delivery: Delivery) -> None:
        delivery.near_limit = True
        super()._receive(delivery)


@pytest.mark.parametrize("counted", [True, False])
async def test_what_has_no_copy_is_worked_as_it_is(counted: bool) -> None:
    path = NearLimit(counted=counted)
    await path.start()
    path.publish("k0", "k1")
    await eventually(lambda: path.asked == (2 if counted else 0))
    await path.work()
    assert path.rows() == {"k0": 1, "k1": 1}
    await path.stop()


async def test_what_has_no_copy_while_something_holds_goes_back() -> None:
    path = NearLimit(counted=True)
    await path.start()
    path.publish("k0")
    await path.router.hold("paused", "a test")
    await eventually(lambda: path.broker.ready == 1 and not path.broker.unacked)
    await path.stop()


@pytest.mark.parametrize(
    ("rule", "changes", "renewed"),
    [
        ("body:/id", {"message_id": None}, True),  # what the body says is in the copy, too
        ("header:order-id", {"key": "o-7", "message_id": None}, True),
        ("header:order-id", {"message_id": "m"}, False),
        ("property:user_id", {"key": "anna", "message_id": "m"}, False),  # it is the property of one of them alone
        ("none", {"message_id": "m"}, False),
    ],
)
async def test_a_rule_says_whether_a_copy_keeps_the_key(rule: str, changes: dict[str, Any], renewed: bool) -> None:
    settling = Settling(rule=parse_key_rule(rule))
    assert await settling.settler.whole.renew(delivery(1, b'{"id": 1}', **changes)) == renewed
