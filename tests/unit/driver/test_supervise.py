"""A supervised actor is started again, whatever ends it; what may pass is asked again first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RpcError

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.remote.calls import ActorLostError
from rabbitray.cluster.driver.supervise import FIRST_STARTS_MOST, UNREACHABLE_MOST, Supervised
from tests.kit.eventually import eventually
from tests.kit.fake_actors import raised_in_actor
from tests.kit.fake_service_actors import FakeMaker, PoolActor
from tests.kit.ray_errors import named, ray_errors
from tests.kit.virtual_time import in_virtual_time

AWAY = ActorUnavailableError("connection reset", None)


class Kept:
    """One supervised router and what was made for it."""

    def __init__(self) -> None:
        self.maker = FakeMaker()
        self.supervised = Supervised("p-router", self._make, self.maker.end)

    async def _make(self) -> Any:
        return await self.maker.make(object, "p-router", "start", again=True)

    @property
    def lives(self) -> list[PoolActor]:
        return self.maker.made["router"]

    async def started_again(self, restarts: int = 1) -> None:
        await eventually(lambda: self.supervised.restarts == restarts, within_s=60)


@pytest.mark.parametrize("error", [*ray_errors(), raised_in_actor(KeyError("x")), RuntimeError("no loop")], ids=named)
@in_virtual_time
async def test_it_is_started_again_whatever_its_watch_raises(error: Exception) -> None:
    kept = Kept()
    first: Any = await kept.supervised.start()
    first.die(error)
    await kept.started_again()
    assert kept.maker.ended == [("p-router", first)], "what is left of it would keep its name"
    assert kept.supervised.actor is kept.lives[1]
    await kept.supervised.stop()


@pytest.mark.parametrize("error", [*ray_errors(), TypeError("unhashable"), OSError("no file")], ids=named)
@in_virtual_time
async def test_it_is_started_again_whatever_its_start_raises(error: Exception) -> None:
    kept = Kept()
    first: Any = await kept.supervised.start()
    kept.maker.refused = [error, error]
    first.die(RayActorError())
    await kept.started_again()
    await kept.supervised.stop()


@in_virtual_time
async def test_a_process_that_ends_while_it_starts_first_is_started_again() -> None:
    kept = Kept()
    kept.maker.refused = [ActorLostError("killed")] * (FIRST_STARTS_MOST - 1)
    first: Any = await kept.supervised.start()
    assert kept.lives == [first]
    assert kept.supervised.restarts == 0
    await kept.supervised.stop()


@pytest.mark.parametrize(
    ("error", "tries"), [(ActorLostError("killed"), FIRST_STARTS_MOST), (ConfigurationError("no such queue"), 1)]
)
@in_virtual_time
async def test_a_first_start_that_fails_is_the_callers(error: Exception, tries: int) -> None:
    kept = Kept()
    kept.maker.refused = [error] * 10
    with pytest.raises(type(error), match=str(error)):
        await kept.supervised.start()
    assert len(kept.maker.asked_again) == tries


@in_virtual_time
async def test_an_actor_that_cannot_be_reached_for_a_while_lives_on() -> None:
    kept = Kept()
    kept.maker.lost = [AWAY, RpcError("reset"), AWAY]
    first: Any = await kept.supervised.start()
    await eventually(lambda: first.called.count("watch") == 4, within_s=60)
    first.say("another router has taken over this pool")
    assert await kept.supervised.ended == "another router has taken over this pool"
    assert (kept.supervised.restarts, kept.maker.ended) == (0, [])
    await kept.supervised.stop()


@in_virtual_time
async def test_an_actor_that_is_never_reached_again_is_replaced() -> None:
    kept = Kept()
    kept.maker.lost = [AWAY] * (UNREACHABLE_MOST + 1)
    first: Any = await kept.supervised.start()
    await kept.started_again()
    assert first.called == ["watch"] * (UNREACHABLE_MOST + 1)
    assert kept.maker.ended == [("p-router", first)]
    await kept.supervised.stop()


@in_virtual_time
async def test_after_a_stop_nothing_is_started() -> None:
    kept = Kept()
    first: Any = await kept.supervised.start()
    first.die(RayActorError())
    await eventually(lambda: kept.maker.ended, within_s=60)
    await kept.supervised.stop()
    await kept.supervised.stop()
    await asyncio.sleep(300)
    assert (len(kept.lives), kept.supervised.restarts) == (1, 0)


def test_every_error_is_there_once() -> None:
    """The list is made from Ray's module: a class that takes other arguments than today's must show here."""
    assert {"OutOfMemoryError", "ActorDiedError", "NodeDiedError", "WorkerCrashedError"} <= set(
        map(named, ray_errors())
    )
    assert all(isinstance(error, RayError) for error in ray_errors())
