"""One look at a pool: what its actors and its broker answer."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.rabbitmq.depth import DepthLink, DepthProbe
from rabbitray.cluster.driver import compose
from rabbitray.cluster.operate.picture import Look
from rabbitray.cluster.operate.running_pool import RunningPool
from rabbitray.cluster.settings import Loaded

QUICK_S = 5.0


def look(pool: RunningPool, loaded: Loaded, over_s: float) -> Look:
    """Asks the actors twice, `over_s` apart; whoever does not answer is a problem that the picture shows."""
    earlier, began = pool.report(), time.monotonic()
    ready, dropped = _depths(pool, loaded)
    time.sleep(max(0.0, began + over_s - time.monotonic()))
    report = pool.report()
    apart_s = time.monotonic() - began
    return Look(
        pool=pool.name,
        queue=loaded.settings.queue,
        report=report,
        earlier=earlier,
        apart_s=apart_s,
        status=_if_it_answers(pool, "autoscaler", "status") or report.pool,
        decisions=_if_it_answers(pool, "autoscaler", "decisions"),
        store=_if_it_answers(pool, "store", "stats"),
        control=_if_it_answers(pool, "store", "control"),
        ready=ready,
        dropped=dropped,
    )


def _if_it_answers(pool: RunningPool, actor: str, method: str, *arguments: object) -> Any:  # Any: as `ask`
    try:
        return pool.ask(actor, method, *arguments, within_s=QUICK_S)
    except RabbitrayError:  # the picture says which one is silent
        return None


def _depths(pool: RunningPool, loaded: Loaded) -> tuple[int | None, int | None]:
    """What waits in the main queue and in the dropped one, as the pool sees it: its broker may not be the one that this
    machine knows of, if any. Where the pool does not say: as that one says.
    """
    depths = _if_it_answers(pool, "autoscaler", "depths", queues_of(loaded))
    if depths is not None or not loaded.is_set("rabbitmq_url"):
        ready, dropped = depths or (None, None)
        return ready, dropped
    return asyncio.run(_of_the_broker(loaded))


async def _of_the_broker(loaded: Loaded) -> tuple[int | None, int | None]:
    link = DepthLink(loaded.settings.rabbitmq_url, "how much waits", timeout_s=2.0)
    try:
        main, dropped = await asyncio.gather(*(_ready(loaded, name, link) for name in queues_of(loaded)))
    finally:
        await link.close()
    return main, dropped


def queues_of(loaded: Loaded) -> tuple[str, str]:
    """The main queue, and the one of what RabbitMQ dropped."""
    topology = compose.topology(loaded.settings)
    return topology.queue, topology.dropped_queue


async def _ready(loaded: Loaded, queue: str, link: DepthLink) -> int | None:
    return await DepthProbe(loaded.settings.rabbitmq_url, queue, link=link).ready()
