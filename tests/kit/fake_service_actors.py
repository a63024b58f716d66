"""FakeMaker: the actors of a pool where there is no Ray; each method ends as the test says, a `watch` when it does."""

from __future__ import annotations

import asyncio
from typing import Any


class PoolActor:
    """One actor. `answers`: what its methods return or raise; `watch` waits until `die`, or for the next of `lost`."""

    def __init__(self, answers: dict[str, object], lost: list[Exception]) -> None:
        self.answers = answers
        self.called: list[str] = []
        self._lost = lost
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def die(self, error: BaseException) -> None:
        """Ends `watch` with this error."""
        self._end.set_exception(error)

    def say(self, word: str) -> None:
        """Ends `watch` with this word."""
        self._end.set_result(word)

    def __getattr__(self, method: str) -> PoolMethod:
        return PoolMethod(self, method)

    async def ended(self) -> str:
        if self._lost:
            raise self._lost.pop(0)
        return await asyncio.shield(self._end)


class PoolMethod:
    """A method of a handle, as Ray has them."""

    def __init__(self, actor: PoolActor, name: str) -> None:
        self._actor = actor
        self._name = name

    async def remote(self, *_arguments: object) -> Any:
        self._actor.called.append(self._name)
        if self._name == "watch":
            return await self._actor.ended()
        answer = self._actor.answers.get(self._name)
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeMaker:
    """Makes PoolActors. `answers`: by the last word of the actor's name; `refused`: what the next makings raise."""

    def __init__(self, **answers: dict[str, object]) -> None:
        self.answers = answers
        self.refused: list[Exception] = []
        self.lost: list[Exception] = []  # what the watch of the next actor raises first
        self.made: dict[str, list[PoolActor]] = {}
        self.ended: list[tuple[str, PoolActor]] = []
        self.asked_again: list[tuple[str, bool]] = []  # names, and whether each was ours before

    async def make(self, kind: type, name: str, begin: str, *arguments: object, again: bool) -> Any:
        self.asked_again.append((name, again))
        if self.refused:
            raise self.refused.pop(0)
        role = name.rpartition("-")[2]
        lost, self.lost = self.lost, []
        actor = PoolActor(dict(self.answers.get(role, {})), lost)
        self.made.setdefault(role, []).append(actor)
        return actor

    async def end(self, actor: Any, name: str) -> None:
        self.ended.append((name, actor))
