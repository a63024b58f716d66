"""An intake and a settler on a real node, as the router has them, without workers and Ray."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pyarrow as pa

from rabbitray.actors.message.keys import DEFAULT_RULE, KeyRule
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.settlement.copies import CopyOutbox
from rabbitray.actors.router.settlement.retries import RetryLimits
from rabbitray.actors.router.settlement.settler import Settler
from tests.kit.intake_ways import TOPOLOGY, RealWay


class SettlingPool:
    """`way`: the way in, with what came; `rows`: the dead letters that would be stored."""

    def __init__(self, url: str, publisher: Publisher, limits: RetryLimits, rule: KeyRule = DEFAULT_RULE) -> None:
        self.way = RealWay(url, key=rule)
        self.publisher = publisher
        self.rows: list[dict[str, Any]] = []
        self.outbox = CopyOutbox(publisher, TOPOLOGY)
        self._limits, self._rule = limits, rule
        self.settler = self.settler_for(self.way.intake)

    def settler_for(self, acks: Intake) -> Settler:
        """Another one, whose messages came by `acks`."""
        record = self._record
        return Settler(
            self._limits, TOPOLOGY.queue, acks=acks, outbox=self.outbox, record_dead_letters=record, rule=self._rule
        )

    async def _record(self, rows: pa.Table) -> None:
        self.rows += rows.to_pylist()


@asynccontextmanager
async def settling_pool(
    url: str, limits: RetryLimits | None = None, rule: KeyRule = DEFAULT_RULE
) -> AsyncIterator[SettlingPool]:
    """A pool that is open, over one connection."""
    async with Publisher(PublisherConfig(url=url, queue=TOPOLOGY.queue)) as publisher:
        found = SettlingPool(url, publisher, limits or RetryLimits(), rule)
        await found.way.start()
        await found.way.intake.open()
        yield found
        assert len(found.way.opener.opened) == 1, "no connection was lost"
        await found.way.close()
