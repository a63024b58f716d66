"""Actors that are called by name: found again after a restart, and what a caller learns where there is none."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError

from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.remote.calls import ActorLostError, ActorMissingError, NamedActor
from tests.kit.fake_actors import FakeActor, FakeActors, raised_in_actor


async def test_it_is_found_for_each_call() -> None:
    """A handle would keep the name of a dead actor taken."""
    first, second = FakeActor("one"), FakeActor("two")
    actors = FakeActors(first, second)
    named = NamedActor("p-store", "ns", find=actors.find)
    assert [await named.call("control"), await named.call("set", "a", 1)] == ["one", "two"]
    assert actors.looked_up == [("p-store", "ns")] * 2
    assert (first.called, second.called) == ([("control", ())], [("set", ("a", 1))])


async def test_a_kept_handle_is_used_until_its_actor_has_ended() -> None:
    first, second = FakeActor(1, RayActorError()), FakeActor(3)
    actors = FakeActors(first, second)
    named = NamedActor("p-store", "ns", keep=True, find=actors.find)
    assert await named.call("stats") == 1
    with pytest.raises(ActorLostError):
        await named.call("stats")
    assert await named.call("stats") == 3
    assert len(actors.looked_up) == 2


async def test_the_end_of_another_actor_is_not_its_own() -> None:
    actors = FakeActors(FakeActor(raised_in_actor(RayActorError()), "still there"))
    named = NamedActor("p-store", "ns", keep=True, find=actors.find)
    with pytest.raises(RayTaskError):
        await named.call("write")
    assert await named.call("write") == "still there"
    assert len(actors.looked_up) == 1


async def test_where_there_is_none_both_forms_say_so() -> None:
    named = NamedActor("p-store", "ns", keep=True, find=FakeActors(None, None, FakeActor("back")).find)
    with pytest.raises(ActorMissingError, match="p-store"):
        named.find()
    with pytest.raises(ActorMissingError, match="p-store"):
        await named.call("control")
    assert await named.call("control") == "back"


@pytest.mark.parametrize(
    "actors",
    [
        FakeActors(None),
        FakeActors(FakeActor(RayActorError())),
        FakeActors(FakeActor(ActorUnavailableError("", None))),
    ],
)
async def test_an_actor_that_is_being_restarted_is_one_clear_line(actors: FakeActors) -> None:
    named = NamedActor("p-router", "ns", find=actors.find)
    with pytest.raises(RabbitrayError, match="actor p-router does not run; it is being restarted"):
        await named.call("status")


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("bad value")])
async def test_an_error_of_the_method_is_the_callers(error: Exception) -> None:
    named = NamedActor("p-router", "ns", find=FakeActors(FakeActor(raised_in_actor(error))).find)
    with pytest.raises(type(error)):
        await named.call("status")


async def test_an_error_of_ours_comes_without_the_traceback_that_ray_makes_of_it() -> None:
    error = raised_in_actor(RabbitrayError("actor p-router is starting"))
    named = NamedActor("p-router", "ns", find=FakeActors(FakeActor(error)).find)
    with pytest.raises(RabbitrayError, match=r"^actor p-router is starting$"):
        await named.call("status")
