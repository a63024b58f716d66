"""A message that ends each connection it is delivered on. Real: what a broker delivers again and how it counts that."""

from __future__ import annotations

from rabbitray.actors.router.delivery import Delivery
from tests.kit.eventually import eventually
from tests.kit.intake_ways import RealWay, Wire

POISON = b"\x02m5"  # its message id, as AMQP writes a short text


def returns(delivery: Delivery) -> int:
    """How often a quorum queue had it back before."""
    headers = getattr(delivery.properties, "headers", None) or {}
    return int(headers.get("x-delivery-count", 0))


async def test_neighbours_of_a_message_that_ends_each_connection_are_not_used_up(amqp_url: str) -> None:
    wire = Wire(amqp_url)
    way = RealWay(amqp_url, await wire.start(), steady_s=0.5)
    way.wire = wire
    await way.start()
    await way.intake.open()
    wire.cut_at = POISON
    await way.publish(10)
    await way.intake.consume(10)
    seen = 0

    def worked() -> set[str]:
        """Settles what came since the last look."""
        nonlocal seen
        way.intake.finish(way.got[seen:])
        seen = len(way.got)
        return {str(one.parcel.message_id) for one in way.got}

    await eventually(lambda: worked() and wire.cuts >= 5, within_s=60)
    wire.cut_at = None
    await eventually(lambda: len(worked()) == 10 and way.intake.unacked == 0, within_s=60)
    most = {name: max(returns(one) for one in way.got if one.parcel.message_id == name) for name in worked()}
    assert most.pop("m5") >= 5
    assert max(most.values()) <= 3
    await way.close()
