"""What `run` looks at before Ray is started: the broker with its queues and rights, and the results file.

Starting Ray takes seconds and leaves processes and files behind, so whatever would end the run anyway is found before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from rabbitray.actors.errors import ConfigurationError, StoreOpenError
from rabbitray.actors.rabbitmq.inspect import Examination, contact, examine
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.store.file import StoreLockedError
from rabbitray.actors.store.read_only import results_version
from rabbitray.cluster.driver import compose
from rabbitray.cluster.operate import doctor
from rabbitray.cluster.settings import Loaded

LOCK_EVERY_S: Final = 0.1


def preflight(loaded: Loaded, *, until_empty: bool = False) -> Callable[[], Awaitable[None]]:
    """Returns the look as a step for the driver; it raises ConfigurationError, one line for each finding.

    `until_empty`: the depth of the queue and of its rungs must be known then.
    """

    async def look_ahead() -> None:
        await _results_file(loaded)
        await _broker(loaded, until_empty=until_empty)

    return look_ahead


async def _results_file(loaded: Loaded) -> None:
    """It can be opened and written; whoever holds it has as long to let go as the store would wait."""
    path = loaded.settings.results.absolute()
    deadline = time.monotonic() + loaded.settings.results_lock_timeout_ms / 1000
    while path.exists():
        try:
            results_version(path)
            break
        except StoreLockedError:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(LOCK_EVERY_S)
        except StoreOpenError:  # told by the doctor's row
            break
    _raise([row.text for row in doctor.results(loaded) if row.level == "refuse"])


async def _broker(loaded: Loaded, *, until_empty: bool) -> None:
    settings, topology = loaded.settings, compose.topology(loaded.settings)
    async with contact(settings.rabbitmq_url, within_s=settings.connect_timeout_s) as connection:
        found = await examine(connection, topology)
    _raise([*found.refused, *(_unknown_depths(found, topology) if until_empty else ())])


def _unknown_depths(found: Examination, topology: Topology) -> list[str]:
    """What waits in a queue that this user may not look at would be left behind."""
    counted = {topology.queue, *map(topology.rung, topology.rung_delays_ms)}
    unknown = [queue.name for queue in found.queues if queue.there is None and queue.name in counted]
    if not unknown:
        return []
    return [
        f"--until-empty cannot see what waits in {', '.join(unknown)}: this user may not look at it (403); grant it "
        "`read` or `write` on them, or leave --until-empty out"
    ]


def _raise(lines: list[str]) -> None:
    if lines:
        raise ConfigurationError("\n".join(lines))
