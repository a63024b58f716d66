"""StoreClient: the store as the router's process sees it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import ObjectLostError, OwnerDiedError, RayActorError, RayError, RayTaskError

from rabbitray.actors.errors import FencedError, PayloadLostError, StoreUnavailableError
from rabbitray.actors.remote.boot import Rows
from rabbitray.actors.remote.calls import ActorMissingError, Find, NamedActor, last_line
from rabbitray.actors.store.answers import Answer


class StoreClient:
    """The router's way to the store, by name: a restarted store is found again."""

    def __init__(self, name: str, namespace: str, queue: str, *, find: Find = ray.get_actor) -> None:
        self._store = NamedActor(name, namespace, keep=True, find=find)
        self._queue = queue
        self.epoch = 0

    async def write(self, payload: Rows, failed_keys: tuple[str, ...], span: str | None) -> Answer:
        """See `Recorder.write`. The rows go from the worker's node to the store's, past this process."""
        answer: Answer = await self._call("write", self.epoch, payload, failed_keys, self._queue, span)
        return answer

    async def record_dead_letters(self, rows: pa.Table) -> None:
        """Appends dead letters."""
        await self._call("record_dead_letters", self.epoch, rows)

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

    async def _call(self, method: str, *arguments: object) -> Any:  # Any: what the method returns
        try:
            return await self._store.call(method, *arguments)
        except ActorMissingError as missing:
            raise self._unavailable("does not run") from missing
        except (FencedError, StoreUnavailableError) as error:  # through Ray its text is a whole traceback
            raise (error.cause if isinstance(error, RayTaskError) else error) from None
        except (ObjectLostError, OwnerDiedError) as lost:
            raise PayloadLostError(last_line(lost)) from lost
        except RayTaskError as failed:
            if isinstance(failed.cause, ObjectLostError | OwnerDiedError | RayActorError):
                raise PayloadLostError(last_line(failed)) from failed
            raise
        except RayActorError as gone:
            raise self._unavailable("ended") from gone
        except RayError as error:
            raise StoreUnavailableError(last_line(error)) from error

    def _unavailable(self, why: str) -> StoreUnavailableError:
        return StoreUnavailableError(f"the store {self._store.name} {why}; it is being restarted")
