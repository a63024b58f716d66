"""Every class of error that Ray has, each made once: a class that a later Ray brings is met by the tests, too."""

from __future__ import annotations

import inspect
from typing import Any

import ray.exceptions
from ray.core.generated import common_pb2
from ray.exceptions import RayError, RayTaskError

_ARGUMENTS: dict[str, Any] = {
    "actor_id": None,
    "client_exc": RuntimeError("inside Ray"),
    "object_ref_hex": "00ff",
    "owner_address": b"10.0.0.1",
    "reason": common_pb2.ErrorType.OBJECT_LOST,
    "ray_exception": common_pb2.RayException(),
}
"""What the constructors take that is no text of the test."""


def ray_errors() -> list[RayError]:
    """One error of each class but RayTaskError, which a method of an actor raised and Ray only carries."""
    found = {kind for kind in vars(ray.exceptions).values() if inspect.isclass(kind) and issubclass(kind, RayError)}
    return [_made(kind) for kind in sorted(found - {RayTaskError}, key=lambda kind: kind.__name__)]


def named(error: object) -> str:
    """The name of a case."""
    return type(error).__name__


def _made(kind: type[RayError]) -> RayError:
    needed = [
        one.name
        for one in inspect.signature(kind.__init__).parameters.values()
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD and one.name != "self"
    ]
    return kind(**{name: _ARGUMENTS.get(name, "as the test says") for name in needed})
