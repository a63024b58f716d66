"""The store as the router sees it: what each way of failing means for the batch that is written."""

from __future__ import annotations

import pytest
from ray.exceptions import ObjectLostError, OwnerDiedError, RayActorError, RayError

from rabbitray.actors.errors import FencedError, PayloadLostError, StoreUnavailableError
from rabbitray.actors.store.answers import Answer, Write, encode
from rabbitray.actors.store.client import StoreClient
from tests.kit.fake_actors import FakeActor, FakeActors, raised_in_actor

LOST = ObjectLostError("00ff", "10.0.0.1", "")
ROWS = object()


def client(*actors: FakeActor | None) -> StoreClient:
    return StoreClient("p-store", "ns", "orders", find=FakeActors(*actors).find)


async def test_a_write_carries_the_epoch_and_the_queue() -> None:
    store = FakeActor(7, encode(Answer(duplicates=(1,))))
    router = client(store)
    await router.register("p-router")
    assert await router.write(ROWS, ("k",), "span") == Answer(duplicates=(1,))
    header = encode(Write(epoch=7, queue="orders", span="span", failed_keys=("k",)))
    assert store.called == [("register", ("p-router",)), ("write", (header, ROWS))]


@pytest.mark.parametrize(
    ("error", "means", "says"),
    [
        (raised_in_actor(FencedError("epoch 3 is over")), FencedError, r"^epoch 3 is over$"),
        (raised_in_actor(StoreUnavailableError("disk full")), StoreUnavailableError, r"^disk full$"),
        (LOST, PayloadLostError, None),
        (OwnerDiedError("00ff", "10.0.0.1", ""), PayloadLostError, None),
        (raised_in_actor(LOST), PayloadLostError, None),
        (raised_in_actor(RayActorError()), PayloadLostError, None),
        (RayActorError(), StoreUnavailableError, "^the store p-store ended; it is being restarted$"),
        (RayError("a\nb"), StoreUnavailableError, "^b$"),
        (raised_in_actor(KeyError("x")), KeyError, None),
    ],
)
async def test_what_an_error_means(error: Exception, means: type[Exception], says: str | None) -> None:
    with pytest.raises(means, match=says) as raised:
        await client(FakeActor(error)).write(ROWS, (), None)
    assert not isinstance(raised.value, RayError) or means is KeyError


async def test_a_store_that_is_not_there_is_found_when_it_is_back() -> None:
    router = client(None, FakeActor({"paused": "night"}, RayActorError()), FakeActor({}))
    with pytest.raises(StoreUnavailableError, match="the store p-store does not run; it is being restarted"):
        await router.control()
    assert await router.control() == {"paused": "night"}
    with pytest.raises(StoreUnavailableError):
        await router.control()
    assert await router.control() == {}
