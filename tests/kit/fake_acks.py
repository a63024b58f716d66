"""FakeAcks: acks and give-backs by tag."""

from __future__ import annotations

from collections.abc import Iterable

from rabbitray.actors.router.delivery import Delivery


class FakeAcks:
    """Acks and give-backs by tag."""

    def __init__(self, log: list[str] | None = None) -> None:
        self.log = log if log is not None else []
        self.acked: list[int] = []
        self.returned: list[int] = []

    def finish(self, deliveries: Iterable[Delivery]) -> None:
        for one in deliveries:
            self.acked.append(one.tag)
            self.log.append(f"ack {one.tag}")

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        for one in deliveries:
            self.returned.append(one.tag)
            self.log.append(f"give back {one.tag}")
