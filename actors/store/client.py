"""StoreClient: the store as the router's process sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pyarrow as pa
import ray
from ray.exceptions import ObjectLostError, OwnerDiedError, RayActorError, RayError, RayTaskError

from rabbitray.actors.errors import FencedError, PayloadLostError, StoreUnavailableError
from rabbitray.actors.remote.boot import Actor, Rows
from rabbitray.actors.remote.calls import last_line
from rabbitray.actors.store.actor import T
from rabbitray.actors.store.answers import Answer


class StoreClient:
    """The router's way to the store, by name: a restarted store is found again."""

    def __init__(self, name: str, namespace: str, queue: str) -> None:
        self._name = name
        self._queue = queue
        self._namespace = namespace
        self._actor: Actor | None = None
        self.epoch = 0

    async def write(self, payload: Rows, failed_keys: tuple[str, ...], span: str | None) -> Answer:
        """See `Recorder.write`. The rows go from the worker's node to the store's, past this process."""
        actor = await self._find()
        return await self._answer(actor.write.remote(self.epoch, payload, failed_keys, self._queue, span))

    async def record_dead_letters(self, rows: pa.Table) -> None:
        """Appends dead letters."""
        actor = await self._find()
        await self._answer(actor.record_dead_letters.remote(self.epoch, rows))

    async def register(self, router: str) -> None:
        """Takes the epoch that all later writes carry."""
        actor = await self._find()
        self.epoch = await self._answer(actor.register.remote(router))

    async def control(self) -> dict[str, object]:
        """The control table."""
        actor = await self._find()
        return await self._answer(actor.control.remote())

    async def set_control(self, name: str, value: object) -> None:
        """Sets one control value (any JSON value; None: not set)."""
        actor = await self._find()
        await self._answer(actor.set_control.remote(name, value))

    async def _find(self) -> Actor:
        if self._actor is None:
            loop = asyncio.get_running_loop()
            try:
                self._actor = await loop.run_in_executor(None, ray.get_actor, self._name, self._namespace)
            except ValueError as missing:
                raise StoreUnavailableError(f"the store {self._name} does not run; it is being restarted") from missing
        return self._actor

    async def _answer(self, ref: Awaitable[T]) -> T:
        try:
            return await ref
        except (FencedError, StoreUnavailableError) as error:  # through Ray its text is a whole traceback
            raise (error.cause if isinstance(error, RayTaskError) else error) from None
        except (ObjectLostError, OwnerDiedError) as lost:
            raise PayloadLostError(last_line(lost)) from lost
        except RayTaskError as failed:
            if isinstance(failed.cause, ObjectLostError | OwnerDiedError | RayActorError):
                raise PayloadLostError(last_line(failed)) from failed
            raise
        except RayActorError as gone:
            self._actor = None
            raise StoreUnavailableError(f"the store {self._name} ended; it is being restarted") from gone
        except RayError as error:
            raise StoreUnavailableError(last_line(error)) from error
