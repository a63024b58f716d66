"""How a command finds a running pool and asks it; one clear line when nothing runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import ray
from ray.exceptions import RayError

from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.remote.boot import Actor
from rabbitray.actors.remote.calls import RAISED, ActorMissingError, NamedActor, last_line, lost
from rabbitray.actors.router.report import RouterReport
from rabbitray.cluster.driver.session import join, require_ray
from rabbitray.cluster.settings import Settings

ANSWER_WITHIN_S: Final = 15.0
STREAM_WITHIN_S: Final = 60.0
ROUTER: Final = "-router"


class NotRunningError(RabbitrayError):
    """No pool of that name runs where we looked."""

    exit_code = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningPool:
    """The three actors of a pool, by name, in the Ray that this process is connected to."""

    name: str
    namespace: str

    def ask(self, actor: str, method: str, *arguments: object, within_s: float = ANSWER_WITHIN_S) -> Any:
        """What `<pool>-<actor>` answers; its own RabbitrayError, or one that says that it is gone or silent.

        Any: the answer of whatever method was asked.
        """
        try:
            return ray.get(getattr(self.find(actor), method).remote(*arguments), timeout=within_s)
        except (RayError, TimeoutError) as error:
            raise translated(error, f"{self.name}-{actor}", within_s) from error

    def report(self, *, within_s: float = ANSWER_WITHIN_S) -> RouterReport:
        """What the router says of itself; raises as `ask`."""
        found: RouterReport = self.ask("router", "report", within_s=within_s)
        return found

    def stream(self, actor: str, method: str, *arguments: object, within_s: float = STREAM_WITHIN_S) -> Iterator[Any]:
        """What a streaming method of `<pool>-<actor>` yields. Any: whatever it yields."""
        found = self.find(actor)
        try:
            for item in getattr(found, method).remote(*arguments):
                yield ray.get(item, timeout=within_s)
        except (RayError, TimeoutError) as error:
            raise translated(error, f"{self.name}-{actor}", within_s) from error

    def find(self, actor: str) -> Actor:
        """The handle of `<pool>-<actor>`; NotRunningError where there is none."""
        try:
            return NamedActor(f"{self.name}-{actor}", self.namespace).find()
        except ActorMissingError as missing:
            where = ray.get_runtime_context().gcs_address
            others = ", ".join(map(repr, pools(self.namespace)))
            raise NotRunningError(
                f"no pool {self.name!r} runs on the Ray at {where} (actor {self.name}-{actor} is missing"
                f"{f'; running there: {others}' if others else ''}); check --pool or --queue, or set RAY_ADDRESS"
            ) from missing


def pools(namespace: str) -> list[str]:
    """The pools that have a router in this namespace of the Ray that this process is connected to."""
    found = ray.util.list_named_actors(all_namespaces=True)
    names = (actor["name"] for actor in found if isinstance(actor, dict) and actor["namespace"] == namespace)
    return sorted(name.removesuffix(ROUTER) for name in names if name.endswith(ROUTER))


def translated(error: Exception, actor: str, within_s: float) -> RabbitrayError:
    """One line for what Ray raises: the actor's own error where it is one of ours."""
    if isinstance(error, RAISED):
        own = getattr(error, "cause", None)
        return own if isinstance(own, RabbitrayError) else _told(error, actor)
    if isinstance(error, TimeoutError):
        return RabbitrayError(f"actor {actor} gave no answer within {within_s:g} s")
    if isinstance(error, RayError) and not lost(error, actor).may_pass:
        return NotRunningError(f"actor {actor} has ended: {last_line(error)}")
    return _told(error, actor)


def _told(error: Exception, actor: str) -> RabbitrayError:
    return RabbitrayError(f"actor {actor}: {last_line(error)}")


def token_hint(address: str | None) -> str:
    """What to add to a failed connection: Ray turns token auth on by itself for `auto`, never for an address."""
    explicit = address not in (None, "auto")
    return "; a cluster with token auth needs RAY_AUTH_MODE=token here as well" if explicit else ""


@contextmanager
def running(settings: Settings) -> Iterator[RunningPool]:
    """The pool of these settings, found on its Ray; NotRunningError when there is none. Disconnects at the end."""
    try:
        require_ray(settings.ray_address)
        join(settings)
    except ConfigurationError as nothing:
        raise NotRunningError(
            f"no pool {settings.pool!r} runs: {nothing}{token_hint(settings.ray_address)}"
        ) from nothing
    try:
        pool = RunningPool(name=settings.pool, namespace=settings.ray_namespace)
        pool.find("router")
        yield pool
    finally:
        ray.shutdown()
