"""Every class of error that Ray has, met by each who calls an actor: nobody keeps a dead one, nobody ends of it."""

from __future__ import annotations

import pytest
from ray.exceptions import ObjectLostError, ObjectStoreFullError, OutOfDiskError, OutOfMemoryError, RayError

from rabbitray.actors.errors import PayloadLostError, RabbitrayError, StoreUnavailableError
from rabbitray.actors.remote.calls import MAY_PASS, RAISED, ActorLostError, NamedActor, last_line
from rabbitray.actors.store.answers import Answer, encode
from rabbitray.actors.store.client import StoreClient
from rabbitray.cluster.operate.running_pool import NotRunningError, translated
from tests.kit.fake_actors import FakeActor, FakeActors, raised_in_actor
from tests.kit.ray_errors import named, ray_errors

ERRORS = [error for error in ray_errors() if not isinstance(error, RAISED)]
COMMITTED = Answer(committed=1)
LOOK_UPS = [RuntimeError("no GCS client"), OSError("refused"), *ERRORS]


@pytest.mark.parametrize("error", ERRORS, ids=named)
async def test_whatever_ray_raises_the_actor_is_looked_up_again(error: RayError) -> None:
    actors = FakeActors(FakeActor(1, error), FakeActor("the new one"))
    actor = NamedActor("p-store", "ns", keep=True, find=actors.find)
    assert await actor.call("stats") == 1
    with pytest.raises(ActorLostError) as lost:
        await actor.call("stats")
    assert lost.value.__cause__ is error
    assert lost.value.may_pass == isinstance(error, MAY_PASS)
    assert await actor.call("stats") == "the new one"


@pytest.mark.parametrize("error", [e for e in ray_errors() if isinstance(e, RAISED)], ids=named)
async def test_an_error_of_the_method_leaves_the_actor_known(error: RayError) -> None:
    actor = NamedActor("p-store", "ns", keep=True, find=FakeActors(FakeActor(error, "the same")).find)
    with pytest.raises(type(error)):
        await actor.call("stats")
    assert await actor.call("stats") == "the same"


@pytest.mark.parametrize("error", ERRORS, ids=named)
async def test_to_the_router_the_store_is_unavailable_or_the_rows_are_lost(error: RayError) -> None:
    store = FakeActor(error)
    client = StoreClient("p-store", "ns", "orders", find=FakeActors(store, FakeActor(encode(COMMITTED))).find)
    lost = isinstance(error, ObjectLostError)
    with pytest.raises(PayloadLostError if lost else StoreUnavailableError):
        await client.write(object(), (), None)
    assert await client.write(object(), (), None) == COMMITTED


@pytest.mark.parametrize("error", LOOK_UPS, ids=named)
async def test_whatever_a_look_up_raises_the_store_is_unavailable(error: Exception) -> None:
    """Nothing runs again for it: the rows are there, and are written when the store is found."""
    client = StoreClient("p-store", "ns", "orders", find=FakeActors(error, FakeActor(encode(COMMITTED))).find)
    with pytest.raises(StoreUnavailableError):
        await client.write(object(), (), None)
    assert await client.write(object(), (), None) == COMMITTED


@pytest.mark.parametrize("error", [error for error in ERRORS if type(error) is not RayError], ids=named)
async def test_rows_that_the_store_cannot_fetch(error: RayError) -> None:
    """The store meets the error, not the router: it is there. Where its node has no room, there will be some."""
    store = FakeActor(raised_in_actor(error), encode(COMMITTED))
    client = StoreClient("p-store", "ns", "orders", find=FakeActors(store).find)
    no_room = isinstance(error, ObjectStoreFullError | OutOfDiskError)
    with pytest.raises(StoreUnavailableError if no_room else PayloadLostError):
        await client.write(object(), (), None)
    assert await client.write(object(), (), None) == COMMITTED


@pytest.mark.parametrize("error", ERRORS, ids=named)
def test_a_command_says_that_an_actor_has_ended_only_where_ray_does(error: RayError) -> None:
    told = translated(error, "p-router", 5.0)
    assert isinstance(told, RabbitrayError)
    assert isinstance(told, NotRunningError) == (not isinstance(error, (*MAY_PASS, TimeoutError)))


def test_of_a_memory_monitor_s_long_text_the_line_is_told_that_says_what_happened() -> None:
    error = OutOfMemoryError(
        message="2 worker(s) were killed: the node runs low on memory.\n(ip=1)\nRefer to the docs."
    )
    assert last_line(error) == "2 worker(s) were killed: the node runs low on memory."
