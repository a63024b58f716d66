"""FakeAcks: acks and give-backs by tag."""

from __future__ import annotations

from collections.abc import Iterable

from rabbitray.actors.router.delivery import Delivery


class FakeAcks:
    """Acks and give-backs by tag. `lost`: tags of a channel that died."""

    def __init__(self, log: list[str] | None = None) -> None:
        self.log = log if log is not None else []
        self.acked: list[int] = []
        self.returned: list[int] = []
        self.lost: set[int] = set()

    def finish(self, deliveries: Iterable[Delivery]) -> int:
        found = list(deliveries)
        for one in found:
            self.acked.append(one.tag)
            self.log.append(f"ack {one.tag}")
        return len(self.still_ours(found))

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        for one in deliveries:
            self.returned.append(one.tag)
            self.log.append(f"give back {one.tag}")

    def still_ours(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        return [one for one in deliveries if one.tag not in self.lost]
