"""RayActors: creates the pool's own actors on the driver's node, and ends them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.remote.boot import Actor
from rabbitray.actors.remote.calls import ActorLostError, answer, last_line
from rabbitray.actors.remote.threads import RayThread
from rabbitray.cluster.driver.session import Session

log = logging.getLogger(__name__)

SMALL_CPU: Final = 0.01
"""Of each of the pool's own actors: Ray's node autoscaler takes away a node that holds none but actors of 0 CPU."""

HEAD_CPU: Final = 0.0
"""On the head's node, which is never taken away, and may offer no CPU at all, as Ray's own documentation advises."""

OWN_ACTORS: Final = 3
"""Store, router, autoscaler."""

CALLS_MOST = 1_000
NAME_FREE_WITHIN_S = 10.0


class ActorMaker(Protocol):
    """Where actors come from. `make` returns one that works; `end` never fails, and may be called twice."""

    async def make(self, kind: type, name: str, begin: str, *arguments: object, again: bool) -> Actor: ...
    async def end(self, actor: Actor, name: str) -> None: ...


class RayActors:
    """Actors in Ray, on the node of `session`.

    Creating and ending wait for Ray's GCS, so they are done in a thread: the driver's event loop also holds
    connections to the broker, and takes the signals.
    """

    def __init__(self, session: Session, namespace: str, pool: str) -> None:
        self._session = session
        self._namespace = namespace
        self._pool = pool
        self._thread = RayThread("ray-actors")

    async def make(self, kind: type, name: str, begin: str, *arguments: object, again: bool) -> Actor:
        """Creates a named actor and awaits its first step; ends it when that fails.

        `again`: the name was ours before, so it is waited for. Raises the RabbitrayError of that step, ActorLostError
        where the actor ended in it, ConfigurationError where the name is taken, and what else Ray raises.
        """
        actor = await self._create(kind, name, arguments, again=again)
        try:
            warnings = await answer(actor, name, begin)
        except ActorLostError as lost:
            await self.end(actor, name)
            raise ActorLostError(f"actor {name} ended while it started: {lost.why}", why=lost.why) from lost
        except BaseException:  # also when it is not waited for any more
            await self.end(actor, name)
            raise
        for warning in warnings or ():
            log.warning("%s", warning)
        return actor

    async def end(self, actor: Actor, name: str) -> None:
        """Ends it now; a dead actor keeps its name for as long as it has a handle that was not killed."""
        try:
            await self._thread.call(ray.kill, actor, no_restart=True)
        except Exception as error:  # noqa: BLE001 # of an actor that is gone, or of a Ray that is: nothing is left to end
            log.warning("Actor %s could not be ended (%s)", name, last_line(error))

    async def _create(self, kind: type, name: str, arguments: tuple[object, ...], *, again: bool) -> Actor:
        """A name is free only once its former holder is gone: that may take a moment after a crash."""
        deadline = time.monotonic() + NAME_FREE_WITHIN_S
        while True:
            try:
                return await self._thread.call(self._creation(kind, name, arguments))
            except ValueError as taken:
                if not again or time.monotonic() > deadline:
                    raise ConfigurationError(
                        f"pool {self._pool!r} runs already in this cluster (actor {name}): "
                        "stop it first, or give this one another --pool"
                    ) from taken
            await asyncio.sleep(0.5)

    def _creation(self, kind: type, name: str, arguments: tuple[object, ...]) -> Callable[[], Actor]:
        options: Any = ray.remote(kind).options(  # Any: Ray's actor class is generic over ours
            name=name,
            namespace=self._namespace,
            num_cpus=HEAD_CPU if self._session.on_head else SMALL_CPU,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=CALLS_MOST,
            scheduling_strategy=NodeAffinitySchedulingStrategy(self._session.node_id, soft=False),
        )
        return lambda: cast("Actor", options.remote(*arguments))
