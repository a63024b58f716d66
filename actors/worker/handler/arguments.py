"""What a handler is called with, where that is more than the job: made right before the call, of the job's unit.

It is made in the handler's thread or task, inside its time and its context: validators are the user's code. Handlers
that ask for the job alone are called without any of this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from msgspec.structs import force_setattr

from rabbitray.actors.message.job import Job
from rabbitray.actors.worker.batch.unit import Unit
from rabbitray.actors.worker.handler.conversion import Convert
from rabbitray.actors.worker.handler.loading import Handler
from rabbitray.actors.worker.handler.shape import Function, Style
from rabbitray.actors.worker.handler.signature import Asks

Make = Callable[[Unit], Any]  # Any: a job, a payload, a message
Raised = Callable[[Unit, BaseException], None]


def of_units(handler: Handler, raised: Raised) -> Function:
    """The handler as a function of a unit, or of a batch's units.

    A unit of a batch of which the arguments cannot be made gets its outcome by `raised`, and the handler is called with
    the others; it is not called at all where none is left.
    """
    call = handler.call
    arguments = _Arguments(handler.asks)

    def one(unit: Unit) -> Any:  # Any: what the user's code returns
        return call(*arguments.of(unit))

    async def one_awaited(unit: Unit) -> Any:
        return await call(*arguments.of(unit))

    def many(units: Sequence[Unit]) -> Any:
        lists = arguments.lists(units, raised)
        return call(*lists) if lists else []

    async def many_awaited(units: Sequence[Unit]) -> Any:
        lists = arguments.lists(units, raised)
        return await call(*lists) if lists else []

    functions: dict[Style, Function] = {
        "sync": one,
        "async": one_awaited,
        "batch": many,
        "async_batch": many_awaited,
    }
    return functions[handler.style]


class _Arguments:
    """Makes what `asks` says."""

    def __init__(self, asks: Asks) -> None:
        convert = asks.convert
        makers: dict[str, Make] = {
            "job": _job if convert is None else _typed_job(convert),
            "payload": _payload if convert is None else _typed_payload(convert),
            "message": Unit.message,
        }
        self._makers = [makers[given] for given in asks.given]

    def of(self, unit: Unit) -> list[Any]:
        """Raises InvalidPayloadError, and what the user's validators raise."""
        return [make(unit) for make in self._makers]

    def lists(self, units: Sequence[Unit], raised: Raised) -> list[list[Any]]:
        """One list for each argument; none where no unit is left."""
        rows = []
        for unit in units:
            try:
                rows.append(self.of(unit))
            except BaseException as error:  # noqa: BLE001 # an outcome, whatever the user's code raises
                raised(unit, error)
        return [list(column) for column in zip(*rows, strict=True)]


def _job(unit: Unit) -> Job:
    return unit.job


def _payload(unit: Unit) -> Any:
    return unit.job.payload


def _typed_payload(convert: Convert) -> Make:
    return lambda unit: convert(unit.job.payload)


def _typed_job(convert: Convert) -> Make:
    def make(unit: Unit) -> Job:
        job = copy(unit.job)  # a third of the time of `replace`, which checks what has been checked
        force_setattr(job, "payload", convert(job.payload))
        return job

    return make
