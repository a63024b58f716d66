"""A decoder of the user's in a whole pool: one that fails, one that hangs and one that ends its process hurt nobody
but their own messages, and what is to run again is read again.
"""

from __future__ import annotations

from pathlib import Path

import aio_pika
import pytest

from tests.kit.eventually import eventually
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import RunningPool, pool_of

pytestmark = [
    pytest.mark.ray,
    pytest.mark.long,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.timeout("300"),
]

GOOD = 60
BAD = {
    "raise value": "decoder_failed",
    "reject": "rejected",
    "exit": "decoder_failed",
    "die": "worker_crashed",
    "sleep 600": "handler_timeout",
    "raise connection": "max_retries",
}


async def publish(pool: RunningPool) -> None:
    settings = pool.loaded.settings
    bodies = [f"ok {n}" for n in range(GOOD)]
    for place, bad in enumerate(BAD):
        bodies.insert(place * 7, bad)
    async with await aio_pika.connect(settings.rabbitmq_url.reveal()) as connection, connection.channel() as channel:
        for body in bodies:
            message = aio_pika.Message(body.encode(), content_type="x/mine", message_id=body, headers={"task": "t"})
            await channel.default_exchange.publish(message, settings.queue)


async def worked_off(pool: RunningPool) -> bool:
    report = await pool.report()
    return (report.counts.done, report.counts.dead, report.pool.held) == (GOOD, len(BAD), 0)


async def test_what_a_decoder_does_ends_its_own_message_alone(amqp_url: str, tmp_path: Path) -> None:
    loaded = settings_for(
        amqp_url,
        tmp_path,
        batch_size=8,
        handler_timeout_s=1,
        max_crashes=1,
        max_retries=2,
        decoder="tests.kit.sample_decoders:steered",
    )
    async with pool_of(loaded, "tests.kit.sample_decoders:echo") as pool:
        await publish(pool)
        await eventually(lambda: worked_off(pool), within_s=150, message="not worked off")
        assert await pool.empty()
    rows = pool.rows("SELECT key, message_type, result->>'$' AS result, attempts FROM results")
    expected = {(f"k-{n}", "T", str(n), 1) for n in range(GOOD)}
    assert {(row["key"], row["message_type"], row["result"], row["attempts"]) for row in rows} == expected
    dead = pool.rows("SELECT message_id, reason, traceback FROM dead_letters")
    assert {row["message_id"]: row["reason"] for row in dead} == BAD
    assert {row["message_id"]: "in steered: " in (row["traceback"] or "") for row in dead} == {
        body: reason in ("decoder_failed", "rejected", "max_retries") for body, reason in BAD.items()
    }
