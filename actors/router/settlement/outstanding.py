"""OutstandingRetries: the copies that went into rungs and have not come back. Pure.

A rung says how many messages it holds, and is wrong for those whose time is over: where the main queue refused one (it
is full, its leader is away), RabbitMQ keeps it, tells nobody, and tries again after 180 s, for some twice. So what is
out is counted here. What has not come back by then is overdue: RabbitMQ may have it still, or a policy has dropped it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rabbitray.actors.message import headers as h

if TYPE_CHECKING:  # the settings take the constants
    from rabbitray.actors.router.delivery import Delivery

HOP_AGAIN_S: Final = 180.0
"""RabbitMQ's `dead_letter_worker_publisher_confirm_timeout`, unless it is configured."""

HOPS_AGAIN: Final = 2
"""How often RabbitMQ may try again before a copy is overdue."""

OUT, UNTIL, OVERDUE = "out", "until_ms", "overdue"


@dataclass(slots=True)
class _Stay:
    """Copies of one name in one rung: how many, and until when they are expected back (Unix ms)."""

    count: int
    until_ms: int


class OutstandingRetries:
    """Counts by message id and attempt, so that a copy that is delivered twice comes back once.

    `kept`: what `state` of the router before said. What that one saw within its last seconds may be missing in it: such
    copies are expected until their time is over. `hop_again_s`: after which RabbitMQ tries again. Times are Unix ms.
    """

    def __init__(self, kept: object = None, *, hop_again_s: float = HOP_AGAIN_S) -> None:
        before = kept if isinstance(kept, Mapping) else {}
        self._longer_ms = round(HOPS_AGAIN * hop_again_s * 1000)
        self._rungs: dict[int, dict[int, _Stay]] = {}  # by delay, in each the one that is due first before the others
        self._mine = 0
        self._before = h.header_number(before.get(OUT), 0, h.MAX_HOPS)
        self._before_until_ms = h.header_number(before.get(UNTIL), 0, 2**53)
        self.overdue = h.header_number(before.get(OVERDUE), 0, h.MAX_HOPS)

    @property
    def out(self) -> int:
        """Copies that are expected back: in rungs, on their way, or ready in the main queue."""
        return self._mine + self._before

    @property
    def until_ms(self) -> int:
        """When the last of them is overdue; 0 where none is out."""
        ends = [next(reversed(stays.values())).until_ms for stays in self._rungs.values() if stays]
        return max([*ends, self._before_until_ms if self._before else 0])

    def state(self) -> dict[str, int] | None:
        """What the next router must know; None for nothing."""
        if not self.out and not self.overdue:
            return None
        return {OUT: self.out, UNTIL: self.until_ms, OVERDUE: self.overdue}

    def went_in(self, message_id: str, attempt: int, delay_ms: int, now_ms: int) -> None:
        """A copy was confirmed in the rung of `delay_ms`."""
        stays = self._rungs.setdefault(delay_ms, {})
        name = hash((message_id, attempt))
        before = stays.pop(name, None)  # put last: its time is over last
        until_ms = now_ms + delay_ms + self._longer_ms
        stays[name] = _Stay((before.count if before else 0) + 1, until_ms)
        self._mine += 1

    def came_back(self, delivery: Delivery) -> None:
        """A message came that bears the headers of a copy."""
        parcel = delivery.parcel
        name = hash((parcel.message_id, parcel.attempt))
        for stays in self._rungs.values():
            if (stay := stays.get(name)) is not None:
                self._take(stays, name, stay)
                return
        table = getattr(delivery.properties, "headers", None) or {}
        if delivery.redelivered or h.DEATHS not in table:
            return  # it was back before, or comes from no rung
        if self._before:
            self._before -= 1
        elif self.overdue:
            self.overdue -= 1

    def vanished(self, delay_ms: int, now_ms: int) -> int:
        """The rung of this delay is gone: its copies are not expected any more. How many must have been in it."""
        stays = self._rungs.get(delay_ms, {})
        lost = [name for name, stay in stays.items() if stay.until_ms - self._longer_ms > now_ms]
        count = sum(stays.pop(name).count for name in lost)
        self._mine -= count
        return count

    def main_vanished(self, now_ms: int) -> None:
        """The main queue is gone, and with it what was back in it: copies whose time in their rung is over."""
        for stays in self._rungs.values():
            back = [name for name, stay in stays.items() if stay.until_ms - self._longer_ms <= now_ms]
            self._mine -= sum(stays.pop(name).count for name in back)

    def expire(self, now_ms: int) -> None:
        """What is expected no longer is overdue."""
        if self._before and now_ms > self._before_until_ms:
            self.overdue += self._before
            self._before = 0
        for stays in self._rungs.values():
            while stays and (first := next(iter(stays.items())))[1].until_ms < now_ms:
                name, stay = first
                del stays[name]
                self._mine -= stay.count
                self.overdue += stay.count

    def _take(self, stays: dict[int, _Stay], name: int, stay: _Stay) -> None:
        self._mine -= 1
        if stay.count > 1:
            stay.count -= 1
        else:
            del stays[name]
