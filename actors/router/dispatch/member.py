"""Member: one worker of the pool with what it has in hand; WorkerHandle and Factory: how its process is reached."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, Protocol, TypeVar

from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.message.parcel import Shipment
from rabbitray.actors.message.reply import Part, Progress, Usage, WorkerInfo
from rabbitray.actors.router.delivery import Batch

State = Literal["starting", "ready", "retiring"]
P = TypeVar("P")  # the payload: a reference to the rows, or the rows themselves in a unit test
P_co = TypeVar("P_co", covariant=True)


ENVIRONMENT_FAILED: Final = "environment_failed"
"""The reason of a start for which Ray could not build the runtime_env."""

NO_GPU_MEMORY: Final = "no_gpu_memory"
"""The reason of a start whose handler found too little memory on its GPU."""


class WorkerLostError(RabbitrayError):
    """A worker ended with a batch. `may_be_poison`: a job of the batch may have killed it, see design.md, Outcomes.

    `node_in_doubt`: so may the end of its node; `WorkerHandle.node_leaves` finds out. `merely_chosen`: its node was
    full, and another process may have filled it.
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        may_be_poison: bool,
        node_in_doubt: bool = False,
        merely_chosen: bool = False,
        traceback: str = "",
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason  # worker_crashed, out_of_memory, handler_timeout, node_lost, killed, unavailable
        self.detail = detail
        self.may_be_poison = may_be_poison
        self.node_in_doubt = node_in_doubt
        self.merely_chosen = merely_chosen
        self.traceback = traceback  # where the handler stood


class WorkerHandle(Protocol[P_co]):
    """One worker, wherever it runs. Calls raise WorkerLostError when it is gone; `node_leaves` is for then."""

    async def ready(self) -> WorkerInfo: ...
    async def run(self, batch_id: str, shipment: Shipment) -> tuple[Part, P_co]: ...
    async def more(self, batch_id: str) -> tuple[Part, P_co]: ...
    async def stands(self) -> str | None: ...
    async def ended(self) -> None: ...
    async def waits_for_place(self) -> bool: ...
    async def node_leaves(self) -> bool: ...
    async def stop(self) -> None: ...
    def kill(self) -> None: ...


class Factory(Protocol[P_co]):
    """Starts workers."""

    def spawn(self, name: str) -> WorkerHandle[P_co]: ...


@dataclass(slots=True)
class LastEnd:
    """When a worker of this router ended last, in monotonic seconds; its pools share it."""

    at: float = -math.inf


@dataclass(slots=True, eq=False)
class Member(Generic[P]):
    """A worker in the pool and what it has in hand."""

    name: str
    handle: WorkerHandle[P]
    asked_at: float
    ready_at: float = 0.0
    state: State = "starting"
    info: WorkerInfo | None = None
    batches: dict[str, Batch] = field(default_factory=dict)  # in the order of dispatch
    slow: dict[str, int] = field(default_factory=dict)  # batch -> jobs still open after its first part
    progress: dict[str, dict[tuple[int, int], Progress]] = field(default_factory=dict)  # batch -> what its jobs told
    suspects: frozenset[str] | None = None  # at its death: the batches that may have killed it
    jobs: int = 0
    busy_s: float = 0.0
    usage: Usage | None = None  # the last that it told
    used_at: float = 0.0
    silent: bool = False  # its node gives no answer
    given_up: WorkerLostError | None = None  # why nobody waits for its answers any more
    replies: dict[str, asyncio.Timeout] = field(default_factory=dict)  # those that are waited for, by batch

    def note_progress(self, batch_id: str, part: Part) -> None:
        """What jobs of a batch have told of themselves, as long as they run."""
        told = self.progress.setdefault(batch_id, {})
        told.update({(one.position, one.record): one for one in part.progress})
        ended = {*part.finished, *part.returned}
        for place in [place for place in told if place[0] in ended]:
            del told[place]

    @property
    def slots(self) -> int:
        """Jobs that run at once."""
        return self.info.slots if self.info else 1

    @property
    def load(self) -> int:
        """Batches in flight that have not shown to be slow."""
        return len(self.batches) - len(self.slow)

    @property
    def open_jobs(self) -> int:
        """Jobs in hand whose outcome is not known here."""
        return sum(self.slow.get(batch.id, batch.records) for batch in self.batches.values())

    def can_take(self, most_in_flight: int) -> bool:
        """Whether one more batch may go there: slots are free, or there is a place in the line.

        Slow jobs occupy slots, not places in the line.
        """
        if self.state != "ready" or self.silent:
            return False
        in_line = self.load < most_in_flight and sum(self.slow.values()) < self.slots
        return in_line or self.open_jobs < self.slots

    def may_have_died_of(self, batch: Batch, *, hung: bool) -> bool:
        """Whether a job of this batch may have ended the worker: any, for the oldest may be finished and its answer
        lost. Of a sync worker that `hung` it is the oldest.
        """
        if self.suspects is None:
            self.suspects = frozenset([*self.batches][:1] if hung and self.slots == 1 else self.batches)
        return batch.id in self.suspects
