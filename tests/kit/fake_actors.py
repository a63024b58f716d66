"""FakeActors: what is found by name where there is no Ray, and handles whose calls end as the test says."""

from __future__ import annotations

from typing import Any

from ray.exceptions import RayTaskError


class FakeActor:
    """A handle: each call ends with the next of `answers`, which is raised if it is an error."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.called: list[tuple[str, tuple[object, ...]]] = []

    def __getattr__(self, method: str) -> FakeMethod:
        return FakeMethod(self, method)


class FakeMethod:
    """A method of a handle, as Ray has them."""

    def __init__(self, actor: FakeActor, name: str) -> None:
        self._actor = actor
        self._name = name

    async def remote(self, *arguments: object) -> Any:
        self._actor.called.append((self._name, arguments))
        answer = self._actor.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeActors:
    """`find` gives the next of `actors`; None: there is none now. An error is raised: no answer of Ray's GCS."""

    def __init__(self, *actors: FakeActor | Exception | None) -> None:
        self._actors = list(actors)
        self.looked_up: list[tuple[str, str]] = []

    def find(self, name: str, namespace: str) -> Any:
        self.looked_up.append((name, namespace))
        actor = self._actors.pop(0)
        if actor is None:
            raise ValueError(f"Failed to look up actor with name {name!r}")
        if isinstance(actor, Exception):
            raise actor
        return actor


def raised_in_actor(cause: Exception) -> RayTaskError:
    """What Ray makes of an exception that a method of an actor raises: also an instance of its class."""
    return RayTaskError("method()", "Traceback ...", cause).as_instanceof_cause()
