"""Records what a pool of this version leaves behind, for the `test_upgrade.py` of later versions. Run by people only:

    python -m pytest tests/kit/record_upgrade.py

in a checkout of the version that is to be recorded; the files are written into `tests/kept`. Nothing collects this
module by itself.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import decimal
import gzip
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgpack
import msgspec
import pika
import pytest

from rabbitray.actors.errors import Reject, Retry
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import Publisher
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.schema import SCHEMA_VERSION
from rabbitray.actors.store.store import Store
from rabbitray.cluster.broker import PrivateBroker
from rabbitray.cluster.driver import compose
from rabbitray.cluster.settings import Loaded
from tests.kit.command_process import run
from tests.kit.eventually import eventually
from tests.kit.pool_settings import settings_for
from tests.kit.queue_access import depth
from tests.kit.recorded import KEPT, Ending, Left, Recording, pack_results, raw_channel, reading_raw
from tests.kit.running_pool import RunningPool, pool_of
from tests.kit.store_rows import rows_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout("600")]

ACT = f"{__name__}:act"
DONE = 70
KEPT_SETTINGS: dict[str, Any] = {
    "retry_delay_ms": 1_000,
    "retry_max_delay_ms": 4_000,
    "max_retries": 5,
    "dedupe_capacity": 1_000,  # 16 rows in a segment: some are sealed, with side files
    "outage_hold": False,
}
"""The same in the pool that works the recording: rungs and segments are made by them."""

RECORDING: dict[str, Any] = {"max_message_bytes": 4_096, "max_crashes": 1, "drain_deadline_s": 0, "min_size": 1}


def act(job: Job) -> dict[str, Any]:
    """Does what `was` in the payload says; the steered handler, which works the recording, reads `do` instead."""
    steps = job.payload if isinstance(job.payload, dict) else {}
    match steps.get("was"):
        case "reject":
            raise Reject("no such user: Zoë")
        case "permanent":
            raise ValueError("no account")
        case "twice":
            raise TypeError("no account, and replayed")
        case "raise":
            raise ConnectionError("the service is down")
        case "retry":
            raise Retry("not now", after_s=steps.get("after_s"))
        case "hang" | "slow":
            time.sleep(3_600)
        case "die":
            os._exit(11)
    return {"key": job.key, "n": steps.get("n")}


UNREADABLE = (
    ("bad-msgpack", "bad_msgpack", b"\xc1\xff", h.MSGPACK),
    ("bad-json", "bad_json", b"{", h.JSON),
    ("bad-packed", "bad_msgpack", b"\x93\x01", h.PACKED),
)


AGAIN = (0, 15, 16, 40, 69)
NESTED = {"n": 1.5, "list": [None, True, "ÿ", {"a": -(2**40)}]}


class Rungs:
    """Takes each copy out of its rung before its time is over, in a thread of its own."""

    def __init__(self, url: str, names: list[str]) -> None:
        self.taken: list[Left] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._take, args=(url, names))

    def __enter__(self) -> Rungs:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _take(self, url: str, names: list[str]) -> None:
        with raw_channel(url) as channel:
            while not self._ended.wait(0.02):
                for name in names:
                    self.taken += taken(channel, name)


def taken(channel: Any, queue: str) -> Iterator[Left]:
    """Takes everything out of a queue, to the byte."""
    while True:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return
        yield Left(
            queue=queue,
            body=base64.b64encode(body).decode(),
            properties=base64.b64encode(properties.raw).decode(),
            shown={
                name: shown(value) for name, value in vars(properties).items() if value is not None and name != "raw"
            },
        )


def shown(value: Any) -> Any:
    """A value for people to read; what JSON does not have, with its type."""
    if isinstance(value, dict):
        return {name: shown(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shown(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)  # pika has a class of its own for long ones
    return value if value is None or isinstance(value, str | bool | float) else f"{type(value).__name__} {value}"


class Scenario:
    """Publishes, and notes how each message is to end in the version that works the recording."""

    def __init__(self, url: str, loaded: Loaded) -> None:
        self.url = url
        self.loaded = loaded
        self.queue = loaded.settings.queue
        self.expected: dict[str, Ending] = {}
        self.nameless = 0

    async def publish(self, jobs: list[Job], form: Any = "msgpack", *, packed: bool | int = False) -> None:
        """By this version's publisher."""
        config = replace(compose.publisher(self.loaded.settings), form=form, max_message_bytes=2**20)
        async with Publisher(config) as publisher:
            assert (await publisher.publish_many(jobs, packed=packed)).ok

    def foreign(self, body: bytes, **properties: Any) -> None:
        """As another client would."""
        with raw_channel(self.url) as channel:
            channel.basic_publish("", self.queue, body, pika.BasicProperties(**properties), mandatory=True)

    @property
    def dead_letters(self) -> int:
        """How many messages are dead letters before a later version replays them."""
        return sum(bool(ending.first) for ending in self.expected.values())

    def ends(self, key: str, ends: str = "done", attempts: int = 1, first: str = "") -> str:
        """This key ends so."""
        assert key not in self.expected
        self.expected[key] = Ending(ends=ends, attempts=attempts, first=first)
        return key


async def settle_all(one: Scenario, pool: RunningPool, rungs: Rungs) -> None:
    """The first run: rows, copies in rungs, dead letters of every reason that a pool gives."""
    await one.publish(
        [Job(id=f"done-{n}", user_id=f"user-{n}", message_type="BIRTHDAY", payload={"n": n}) for n in range(DONE)]
    )
    retried = [
        ("raise-0", {"was": "raise"}, 0),
        ("raise-1", {"was": "raise"}, 1),
        ("raise-3", {"was": "raise"}, 3),
        ("raise-once-more", {"was": "raise", "do": "raise", "times": 2}, 0),
        ("retry-0", {"was": "retry"}, 0),
        ("retry-after", {"was": "retry", "after_s": 1.5}, 0),
        ("retry-beyond", {"was": "retry", "after_s": 30}, 0),
    ]
    for key, _, count in retried:
        one.ends(key, attempts=count + 2 + (key == "raise-once-more"))
    await one.publish([Job(id=key, payload=payload, retry_count=count) for key, payload, count in retried])
    await one.publish(
        [Job(id=one.ends("compact-raise", attempts=2), user_id="", payload={"was": "raise"})], "compact_json"
    )
    await one.publish([Job(id=one.ends("verbose-raise", attempts=2), payload={"was": "raise"})], "verbose_json")
    packed = [Job(id=f"done-packed-{n}", payload={"n": n}) for n in range(2)]
    await one.publish([*packed, Job(id=one.ends("packed-raise", attempts=2), payload={"was": "raise"})], packed=3)
    one.foreign(
        b'{"was": "raise"}', message_id=one.ends("foreign-raise", attempts=2), content_type="application/json",
        priority=4, type="order", app_id="shop", correlation_id="c-1", reply_to="answers", headers=foreign_headers(),
    )  # fmt: skip
    dead = {"reject": "rejected", "permanent": "permanent", "exhausted": "max_retries", "hang": "handler_timeout"}
    dead |= {"die": "worker_crashed"}
    kinds = {"exhausted": "raise"}
    await one.publish(
        [
            Job(
                id=one.ends(f"dead-{name}", first=reason),
                payload={"was": kinds.get(name, name)},
                retry_count=5 * (name in kinds),
            )
            for name, reason in dead.items()
        ]
    )
    again = {"was": "reject", "do": "reject", "text": "still not"}
    await one.publish([Job(id=one.ends("dead-for-good", "rejected", first="rejected"), payload=again)])
    await one.publish([Job(id=one.ends("dead-large", first="too_large"), payload={"text": "x" * 5_000})])
    await one.publish([Job(id=one.ends("dead-twice", first="permanent"), payload={"was": "twice"})])
    for key, reason, body, kind in UNREADABLE:
        one.foreign(body, message_id=one.ends(key, reason, first=reason), content_type=kind, delivery_mode=2)
    one.foreign(
        b'{"was": "permanent"}', message_id=one.ends("foreign-dead", first="permanent"), delivery_mode=2, priority=9,
        content_type="application/json", headers=foreign_headers(),
    )  # fmt: skip

    async def at_rest() -> bool:
        report = await pool.report()
        retries = len(one.expected) - one.dead_letters
        return (report.counts.done, report.counts.dead, len(rungs.taken)) == (DONE + 2, one.dead_letters, retries)

    await eventually(at_rest, within_s=120, message="the first run did not settle everything")
    command = ("dlq", "replay", "--class", "TypeError", "--queue", one.queue, "--pool", one.queue, "--json")
    code, _, err = await asyncio.to_thread(run, one.url, None, *command)
    assert code == 0, err

    async def dead_again() -> bool:
        report = await pool.report()
        return bool(report.counts.dead == one.dead_letters + 1 and not report.pool.held)

    await eventually(dead_again, within_s=60)


def foreign_headers() -> dict[str, Any]:
    """Header values of every type that pika writes."""
    return {
        "text": "Zoë",
        "bytes": b"\x00\xff",
        "small": 7,
        "large": 2**40,
        "negative": -1,
        "yes": True,
        "price": decimal.Decimal("9.99"),
        "at": dt.datetime(2026, 1, 2, 3, 4, 5),
        "nothing": None,
        "list": [1, "two", {"three": 3}],
        "table": {"a": {"b": "c"}},
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }


async def expire(one: Scenario, *keys: str) -> None:
    """The broker dead-letters these itself, while no pool runs."""
    before = await depth(one.url, compose.topology(one.loaded.settings).dropped_queue)
    for key in keys:
        body = msgpack.packb({"i": key, "p": {"was": "ok"}})
        one.foreign(body, message_id=key, content_type=h.MSGPACK, expiration="1", delivery_mode=2)

    async def dropped() -> bool:
        now = await depth(one.url, compose.topology(one.loaded.settings).dropped_queue)
        return now == before + len(keys)

    await eventually(dropped, within_s=20)


async def give_back(one: Scenario, pool: RunningPool) -> None:
    """The second run: what expired is collected, and slow jobs are in hand when the pool ends."""
    jobs = [Job(id=one.ends(f"slow-{n}"), payload={"was": "slow"}) for n in range(6)]
    await one.publish(jobs)

    async def in_hand() -> bool:
        report = await pool.report()
        return bool(report.pool.held == len(jobs) and any(worker.batches for worker in report.workers))

    await eventually(in_hand, within_s=60)

    async def collected() -> bool:
        return await depth(one.url, compose.topology(one.loaded.settings).dead_queue) == one.dead_letters

    await eventually(collected, within_s=60)


async def leave(one: Scenario) -> None:
    """What waits in the main queue: every form, packed, by other clients; and some keys that are finished."""
    at = dt.datetime(2026, 1, 2, 12, 0, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    for form in ("msgpack", "compact_json", "verbose_json"):
        name = form.partition("_")[0]
        await one.publish(
            [
                Job(id=one.ends(f"{name}-bare")),
                Job(id=one.ends(f"{name}-no-user"), user_id="", message_type="", payload={}),
                Job(
                    id=one.ends(f"{name}-full", attempts=3), user_id="üser", message_type="ANNIVERSARY",
                    scheduled_at=at, timestamp_ms=1_767_355_200_123, retry_count=2, payload=NESTED,
                ),
                Job(id=one.ends(f"{name}-type"), message_type="CHRISTMAS", payload="text"),
            ],
            form,
        )  # fmt: skip
    await one.publish([Job(id=one.ends("msgpack-bytes"), payload={"raw": b"\x00\xff" * 40})])
    await one.publish([Job(id=one.ends(f"packed-{n}"), user_id=f"u{n}", payload={"n": n}) for n in range(12)], packed=5)
    await one.publish(
        [Job(id=f"done-{n}", user_id=f"user-{n}", message_type="BIRTHDAY", payload={"n": n}) for n in AGAIN]
    )
    await one.publish([Job(id=f"done-packed-{n}", payload={"n": n}) for n in range(2)], packed=2)
    document = {"messageId": one.ends("foreign-gzip"), "userId": "u", "payload": {"a": 1}}
    one.foreign(
        gzip.compress(json.dumps(document).encode(), mtime=0), content_type="application/json", content_encoding="gzip",
        priority=9, type="order", app_id="shop", user_id="guest", correlation_id="c-2", reply_to="answers",
        timestamp=1_767_355_200, headers=foreign_headers(), delivery_mode=1,
    )  # fmt: skip
    one.foreign(b'{"order": 7}', message_id=one.ends("foreign-id"), content_type="application/json")
    one.foreign(b"hello", headers={h.KEY: one.ends("foreign-key")}, content_type="text/plain")
    one.foreign(b"nobody's", content_type="text/plain")
    one.nameless += 1


@pytest.mark.parametrize("kind", ["quorum", "classic"])
async def test_record(broker: PrivateBroker, amqp_url: str, tmp_path: Path, kind: str) -> None:
    names: dict[str, Any] = {"queue": f"upgrade-{kind}", "pool": f"upgrade-{kind}", "queue_type": kind}
    loaded = settings_for(amqp_url, tmp_path, **KEPT_SETTINGS, **RECORDING, **names)
    hasty = settings_for(amqp_url, tmp_path, **KEPT_SETTINGS, **RECORDING, **names, handler_timeout_s=2)
    one = Scenario(amqp_url, loaded)
    with reading_raw():
        left = await everything_left(one, hasty)
    commit, results = commit_of_this(), f"results-v{SCHEMA_VERSION}-{kind}.tar.xz"
    await fill_every_table(loaded)
    pack_results(loaded.settings.results, KEPT / results)
    packed = [f"done-packed-{n}" for n in range(2)]
    recording = Recording(
        commit=commit,
        rabbitmq=broker.ctl("version").strip().splitlines()[-1],
        settings=KEPT_SETTINGS | names,
        results=results,
        finished=[*(f"done-{n}" for n in range(DONE)), *packed],
        again=[*(f"done-{n}" for n in AGAIN), *packed],
        nameless=one.nameless,
        expected=one.expected,
        messages=left,
        **declared(broker, amqp_url),
    )
    text = msgspec.json.format(msgspec.json.encode(recording), indent=1)
    (KEPT / f"left-by-{commit}-{kind}.json").write_bytes(text + b"\n")


async def everything_left(one: Scenario, hasty: Loaded) -> list[Left]:
    """Runs two pools, the `hasty` one first, and takes everything that they and their publishers left."""
    topology = compose.topology(one.loaded.settings)
    async with pool_of(hasty, ACT) as pool:
        with Rungs(one.url, [topology.rung(delay) for delay in topology.rung_delays_ms]) as caught:
            await settle_all(one, pool, caught)
    await expire(one, one.ends("expired", first="broker_expired"))
    async with pool_of(one.loaded, ACT) as pool:
        await give_back(one, pool)
    left = list(caught.taken)
    with raw_channel(one.url) as channel:
        left += taken(channel, one.queue)  # given back; a message expires at the head of its queue only
        await expire(one, *[one.ends(f"dropped-{n}", first="broker_expired") for n in range(3)])
        await leave(one)
        for name in (one.queue, topology.dead_queue, topology.dropped_queue):
            left += taken(channel, name)
    return left


async def fill_every_table(loaded: Loaded) -> None:
    """What no message of the recording brings: a control value, and another message under a finished key."""
    store = Store(StoreConfig(path=loaded.settings.results, dedupe_capacity=KEPT_SETTINGS["dedupe_capacity"]))
    await store.open()
    await store.set_control("paused", False)
    other = rows_of(["done-0"], queue=loaded.settings.queue, user_id="stranger", payload={"another": 1})
    assert (await store.write(await store.register("recorder"), other)).conflicts == 1
    await store.close()


def declared(broker: PrivateBroker, url: str) -> dict[str, list[dict[str, Any]]]:
    """Exchanges, queues and bindings of the vhost, as the broker says."""
    vhost = quote(unquote(urlsplit(url).path[1:]), safe="")
    wanted = {
        "exchanges": ("name", "type", "durable", "arguments"),
        "queues": ("name", "durable", "auto_delete", "arguments"),
        "bindings": ("source", "destination", "routing_key"),
    }
    found: dict[str, Any] = {kind: broker.api("GET", f"/api/{kind}/{vhost}") for kind in wanted}
    ours = {kind: [one for one in found[kind] if not _brokers_own(one)] for kind in wanted}
    return {kind: [{name: one[name] for name in names} for one in ours[kind]] for kind, names in wanted.items()}


def _brokers_own(one: dict[str, Any]) -> bool:
    """The default exchange, its bindings, and those of the standard."""
    name = one["source"] if "source" in one else one["name"]
    return not name or name.startswith("amq.")


def commit_of_this() -> str:
    """The commit that is checked out, abbreviated."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
