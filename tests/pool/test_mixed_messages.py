"""Messages of five real producers in one queue, through retries, dead letters and replays: none lost, none doubled,
none changed. Each run's Message is compared, property by property, with what RabbitMQ got from the producer.

    ROUNDS=1 .venv/bin/python -m pytest -s tests/pool/test_mixed_messages.py -k 500-
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from rabbitray.cluster.broker import PrivateBroker
from rabbitray.cluster.driver import compose
from rabbitray.cluster.settings import Loaded
from tests.kit import mixed_handler as handler
from tests.kit import mixed_producers as producers
from tests.kit.broker_users import Rights, user_with
from tests.kit.dlq_command import dlq
from tests.kit.eventually import eventually
from tests.kit.mixed_account import Account
from tests.kit.mixed_producers import PRODUCERS, Shop
from tests.kit.mixed_sent import Sent, by_dramatiq_itself, through_the_tap
from tests.kit.pool_settings import settings_for
from tests.kit.queue_access import depth
from tests.kit.running_pool import RunningPool, pool_of

pytestmark = [
    pytest.mark.ray,
    pytest.mark.long,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.timeout("900"),
]

MESSAGES = 10_000
WITHIN_S = 500


@pytest.fixture
def logins(broker: PrivateBroker, amqp_url: str) -> Iterator[dict[str, str]]:
    """The URL of each producer's own login, which may write to its exchange alone; Dramatiq wants to make queues."""
    with ExitStack() as users:
        own = {
            name: users.enter_context(user_with(broker, amqp_url, Rights(write=rf"^shop\.{name}$")))
            for name in PRODUCERS
            if name != "dramatiq"
        }
        yield own | {"dramatiq": amqp_url}


async def publish(url: str, shop: Shop, count: int) -> dict[str, Sent]:
    """All five producers send at once, each so many; what they sent, by id."""
    *_, by_dramatiq = await asyncio.gather(
        asyncio.to_thread(producers.by_pika, shop, count),
        asyncio.to_thread(producers.by_kombu, shop, count),
        asyncio.to_thread(producers.by_celery, shop, count),
        producers.by_aio_pika(shop, count),
        asyncio.to_thread(producers.by_dramatiq, shop, count),
    )
    tapped = await asyncio.to_thread(through_the_tap, url, shop)
    sent = tapped | by_dramatiq_itself(by_dramatiq, shop)
    assert set(sent) == producers.all_names(count), "each producer has sent each of its messages"
    return sent


async def at_rest(pool: RunningPool, *, done: int, dead: int) -> bool:
    report = await pool.report()
    return (report.counts.done, report.counts.dead, report.pool.held) == (done, dead, 0) and await pool.empty()


async def work_off(pool: RunningPool, shop: Shop, *, done: int, dead: int) -> None:
    """Waits until all are done or dead, then until the dead are done, too: the handler takes them after that."""
    url, dead_queue = pool.loaded.settings.rabbitmq_url.reveal(), compose.topology(pool.loaded.settings).dead_queue
    await eventually(lambda: at_rest(pool, done=done, dead=dead), within_s=WITHIN_S)
    assert await depth(url, dead_queue) == dead
    (Path(shop.folder) / handler.CLOSED).unlink()
    assert (await dlq(pool, "replay", "--all"))["replayed"] == dead
    await eventually(lambda: at_rest(pool, done=done + dead, dead=dead), within_s=WITHIN_S)
    assert await depth(url, dead_queue) == 0


async def sent_and_worked(loaded: Loaded, shop: Shop, count: int) -> Account:
    """So many messages, a pool that works them while they are sent, and what became of each."""
    url = loaded.settings.rabbitmq_url.reveal()
    began_s, started_ms = time.monotonic(), time.time_ns() // 1_000_000
    async with pool_of(loaded, "tests.kit.mixed_handler:handle") as pool:
        sent = await publish(url, shop, count // len(PRODUCERS))
        sys.stdout.write(f"\nsent after {time.monotonic() - began_s:.0f} s\n")
        dead = sum(handler.dies(handler.number_of(name)) for name in sent)
        await work_off(pool, shop, done=count - dead, dead=dead)
        sys.stdout.write(f"worked off after {time.monotonic() - began_s:.0f} s\n")
        await pool.stop()
    letters = pool.rows("SELECT body, reason FROM dead_letters")
    assert {letter["reason"] for letter in letters} == {"rejected"}
    return Account(
        sent=sent,
        runs=handler.runs_in(Path(shop.folder)),
        results=[msgspec.json.decode(row["result"]) for row in pool.rows("SELECT result FROM results")],
        letters=[letter["body"] for letter in letters],
        started_ms=started_ms,
    )


def assert_every_property_was_sent(sent: Mapping[str, Sent]) -> None:
    """The test is about something: every producer but Dramatiq has set every property, in more than one way."""
    values: dict[str, Counter[str]] = defaultdict(Counter)
    for name, one in sent.items():
        producer = name.rpartition("-")[0]
        for field, value in (one.record | {"expiration": str(one.expiration_ms)}).items():
            values[f"{producer} {field}"][value] += 1
    dull = {field for field, found in values.items() if len(found) < 2 and " header " not in field}
    assert not [field for field in dull if not field.startswith("dramatiq") and not field.endswith("exchange")], dull


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("count", [500, MESSAGES], ids=lambda count: f"{count}-messages")
async def test_each_property_of_each_message_is_as_it_was_sent(
    amqp_url: str, logins: dict[str, str], tmp_path: Path, count: int, kind: str
) -> None:
    loaded = settings_for(amqp_url, tmp_path, queue_type=kind)
    shop = Shop(queue=loaded.settings.queue, folder=str(tmp_path), urls=logins, kind=kind)
    producers.declare(amqp_url, shop)
    (tmp_path / handler.CLOSED).touch()
    account = await sent_and_worked(loaded, shop, count)
    sys.stdout.write(f"{account.told()}\n")
    assert_every_property_was_sent(account.sent)
    assert (account.lost, account.doubled) == ([], [])
    assert not account.changed, dict(itertools.islice(account.changed.items(), 5))
    assert not account.letters_changed
    assert not account.run_otherwise
