"""StoreClient: the store as the router's process sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import ObjectLostError, ObjectStoreFullError, OutOfDiskError, RayActorError, RayError, RayTaskError

from rabbitray.actors.errors import PayloadLostError, StoreUnavailableError
from rabbitray.actors.message.reply import FailedRun
from rabbitray.actors.remote.boot import Rows
from rabbitray.actors.remote.calls import ActorLostError, ActorMissingError, Find, NamedActor, last_line
from rabbitray.actors.store.answers import Answer, Write, decode_answer, encode

TABLE_BYTES = 16 * 1024
"""What the description of a table's columns weighs at most."""


class StoreClient:
    """The router's way to the store, by name: a restarted store is found again."""

    def __init__(self, name: str, namespace: str, queue: str, *, find: Find = ray.get_actor) -> None:
        self._store = NamedActor(name, namespace, keep=True, find=find)
        self._queue = queue
        self.epoch = 0

    async def write(
        self, payload: Rows, failed_keys: tuple[str, ...], span: str | None, failures: Sequence[FailedRun] = ()
    ) -> Answer:
        """See `Recorder.write`. The rows go from the worker's node to the store's, past this process."""
        header = encode(
            Write(epoch=self.epoch, queue=self._queue, span=span, failed_keys=failed_keys, failures=tuple(failures))
        )
        answer: bytes = await self._call("write", header, payload, size=len(header))
        return decode_answer(answer)

    async def record_dead_letters(self, rows: pa.Table) -> None:
        """Appends dead letters."""
        await self._call("record_dead_letters", self.epoch, rows, size=rows.nbytes + TABLE_BYTES)

    async def register(self, router: str) -> None:
        """Takes the epoch that all later writes carry."""
        self.epoch = await self._call("register", router)

    async def control(self) -> dict[str, object]:
        """The control table."""
        control: dict[str, object] = await self._call("control")
        return control

    async def set_control(self, name: str, value: object) -> None:
        """Sets one control value (any JSON value; None: not set)."""
        await self._call("set_control", name, value)

    async def _call(self, method: str, *arguments: object, size: int = 0) -> Any:  # Any: what the method returns
        try:
            return await self._store.call(method, *arguments, size=size)
        except ActorLostError as lost:
            raise self._meaning(lost) from lost
        except RayTaskError as failed:
            if isinstance(failed.cause, ObjectStoreFullError | OutOfDiskError):  # no room to fetch the rows
                raise StoreUnavailableError(last_line(failed)) from failed
            if isinstance(failed.cause, RayError) and type(failed.cause) is not RayError:  # that stands for an error
                raise PayloadLostError(last_line(failed)) from failed  # of the store's which could not be sent
            raise

    def _meaning(self, lost: ActorLostError) -> PayloadLostError | StoreUnavailableError:
        if isinstance(lost, ActorMissingError):
            return StoreUnavailableError(f"the store {self._store.name} does not run; it is being restarted")
        if lost.may_pass:
            return StoreUnavailableError(lost.why)
        if isinstance(lost.__cause__, ObjectLostError):
            return PayloadLostError(lost.why)
        if isinstance(lost.__cause__, RayActorError):
            return StoreUnavailableError(f"the store {self._store.name} ended; it is being restarted")
        return StoreUnavailableError(lost.why)
