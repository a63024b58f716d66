"""Counts the actor calls that a process makes. Runs in the actors, so it imports nothing of `bench`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import ray.actor

_KIND: Any = ray.actor.ActorHandle  # Any: what is replaced is Ray's own
_made: Counter[str] = Counter()


def count_calls(actor: Any) -> None:  # Any: an actor's own object
    """From now on this process counts the calls that it makes, by method."""
    call = _KIND._actor_method_call

    def counted(handle: Any, method: str, /, *args: Any, **options: Any) -> Any:
        _made[method] += 1
        return call(handle, method, *args, **options)

    _KIND._actor_method_call = counted


def calls_made(actor: Any) -> dict[str, int]:  # Any: an actor's own object
    """How often each method was called since `count_calls`."""
    return dict(_made)
