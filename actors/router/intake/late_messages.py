"""LateMessages: what RabbitMQ takes back by its `consumer_timeout` is told, counted and given up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.generation import Generation
from rabbitray.actors.router.intake.late import late_words

log = logging.getLogger(__name__)


class LateMessages:
    """The late messages of queue `source`. `held`: what its user has of the deliveries; `on_late` is told of those
    among them that come again, although their channel lives.
    """

    def __init__(
        self, source: str, *, held: Callable[[], Iterable[Delivery]], on_late: Callable[[Sequence[Delivery]], None]
    ) -> None:
        self._source = source
        self._held = held
        self._on_late = on_late
        self.count = 0

    def tell_closed(self, ended: Generation, again: str) -> None:
        """The channel was closed for a late message. `again`: what is delivered again."""
        late = ended.late(self._held(), time.monotonic())
        self._tell(ended, late, f"RabbitMQ closed the channel, {again}")

    def give_up(self, current: Generation) -> Sequence[Delivery]:
        """The broker has cancelled a consumer: what was late belongs to nobody from now on; returns it."""
        late = current.late(self._held(), time.monotonic())
        if late:
            self._tell(current, late, "RabbitMQ cancelled the consumer and delivers again what was late")
            current.disown(late)
            self._on_late(late)
        else:
            log.error("RabbitMQ cancelled the consumer of queue %s: was it deleted?", self._source)
        return late

    def _tell(self, generation: Generation, late: Sequence[Delivery], end: str) -> None:
        self.count += max(1, len(late))
        said = late_words(late, time.monotonic(), generation.timeout_s, self._source)
        log.warning("%s; %s. What to do: docs/rabbitmq.md, Consumer timeout", said, end)
