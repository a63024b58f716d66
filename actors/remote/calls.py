"""The one way to call an actor, what Ray's errors say of it, and calls by name from a loop that must not block."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, Final

import ray
from ray.exceptions import (
    ActorUnavailableError,
    GetTimeoutError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    PendingCallsLimitExceeded,
    RayActorError,
    RayError,
    RayTaskError,
    RpcError,
    UnserializableException,
)

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.errors import ERROR_TEXT_MOST, RabbitrayError
from rabbitray.actors.remote.boot import Actor
from rabbitray.actors.remote.compat.texts import death_cause, without_guesses
from rabbitray.actors.remote.inline import goes_inline
from rabbitray.actors.remote.threads import RayThread
from rabbitray.actors.secret import NO_SECRETS

log = logging.getLogger(__name__)
LULL_S = 1.0
Find = Callable[[str, str], Actor]

RAISED: Final = (RayTaskError, UnserializableException)
"""What Ray raises where a method raised something: the actor is there. The second one carries what could not be read
here."""

MAY_PASS: Final = (
    ActorUnavailableError,
    GetTimeoutError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    PendingCallsLimitExceeded,
    RpcError,
)
"""What Ray raises of an actor that may answer the next call. Every other class, also one that a later Ray brings,
means that it has ended: asking a dead actor for ever is worse than looking up one that lives."""


class ActorLostError(RabbitrayError):
    """An actor gave no answer; whether it did what was asked is not known. `why`: Ray's words; `__cause__`: its error.

    `may_pass`: Ray does not say that the actor has ended.
    """

    def __init__(self, text: str, *, why: str = "", may_pass: bool = False) -> None:
        super().__init__(text)
        self.why = why or text
        self.may_pass = may_pass


class ActorMissingError(ActorLostError):
    """No actor of that name is there now."""


async def answer(actor: Actor, name: str, method: str, *arguments: object, thread: RayThread | None = None) -> Any:
    """What a method of an actor answers: every call of an actor but a worker's goes through here.

    Raises the RabbitrayError that the method raised, one of RAISED for what else it raised, and ActorLostError for
    every other error of Ray. `thread`: the call is made there, for its arguments are large. Any: what the method
    returns.
    """
    remote = getattr(actor, method).remote
    try:
        return await (remote(*arguments) if thread is None else await thread.call(remote, *arguments))
    except RAISED as raised:
        own = getattr(raised, "cause", None)
        if isinstance(own, RabbitrayError):
            raise own from None  # through Ray its text is a whole traceback
        raise
    except RayError as error:
        raise lost(error, name) from error


def lost(error: RayError, name: str) -> ActorLostError:
    """What an error of Ray that no method raised says of the actor of that name."""
    text = f"actor {name} does not run; it is being restarted"
    return ActorLostError(text, why=last_line(error), may_pass=isinstance(error, MAY_PASS))


class NamedActor:
    """Calls an actor that is found by its name: after a restart it is another one.

    `keep`: it is looked up once, and again after a call that it did not answer; else each time, for a handle keeps
    the name of a dead actor taken. `find(name, namespace)` blocks, and raises ValueError where there is no such actor,
    and all kinds of errors where the GCS gives no answer.
    """

    def __init__(self, name: str, namespace: str, *, keep: bool = False, find: Find = ray.get_actor) -> None:
        self.name = name
        self._namespace = namespace
        self._keep = keep
        self._look_up = find
        self._kept: Actor | None = None
        self._thread = RayThread(f"call-{name}")

    def find(self) -> Actor:
        """Its handle; ActorMissingError where there is none, ActorLostError where that cannot be known. Blocks."""
        if self._kept is not None:
            return self._kept
        text = f"actor {self.name} does not run; it is being restarted"
        try:
            found = self._look_up(self.name, self._namespace)
        except ValueError as missing:
            raise ActorMissingError(text) from missing
        except Exception as error:
            raise ActorLostError(text, why=f"Ray does not find it: {last_line(error)}", may_pass=True) from error
        if self._keep:
            self._kept = found
        return found

    async def call(self, method: str, *arguments: object, size: int = 0) -> Any:  # Any: what the method returns
        """What it answers; raises as `answer`. `size`: bytes of the arguments, about, where they may be many."""
        actor = self._kept if self._kept is not None else await self._thread.call(self.find)
        try:
            thread = None if goes_inline(size) else self._thread
            return await answer(actor, self.name, method, *arguments, thread=thread)
        except ActorLostError:
            if self._kept is actor:
                self._kept = None
            raise


class WakeAutoscaler:
    """Wakes the actor of that name; costs a comparison for each delivery, and a call for each lull."""

    def __init__(self, autoscaler: str, namespace: str, find: Find = ray.get_actor) -> None:
        self._autoscaler = NamedActor(autoscaler, namespace, find=find)
        self._last = -math.inf
        self._tasks = BackgroundTasks(log, "Waking the autoscaler failed")

    def delivered(self, at: float) -> None:
        """Notes a delivery at `at` (monotonic s)."""
        lull, self._last = at - self._last > LULL_S, at
        if lull and not self._tasks.running:
            self._tasks.spawn(self._ring(), name="wake-autoscaler")

    async def _ring(self) -> None:
        """An autoscaler that is not there, or is being restarted, looks by itself when it comes."""
        try:
            await self._autoscaler.call("wake")
        except (RabbitrayError, RayError) as error:
            log.debug("The autoscaler was not woken: %s", error)


def last_line(error: BaseException) -> str:
    """What happened, out of Ray's long texts: why an actor ended, in a few words, else the last line, and of a memory
    monitor's text the first one; cut, and without the passwords of URLs.
    """
    text = str(error).strip()
    lines = text.splitlines()
    if not lines:
        return type(error).__name__
    in_words = isinstance(error, RayActorError) and not getattr(error, "actor_init_failed", False)
    if in_words and (cause := death_cause(text)) is not None:
        return cause
    told = lines[0].strip() if isinstance(error, OutOfMemoryError) else without_guesses(lines)
    return NO_SECRETS.cut(told, ERROR_TEXT_MOST)
