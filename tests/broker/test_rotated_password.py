"""A router that runs keeps trying when its password is refused, says why, and goes on as soon as it is let in again."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import pytest

from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.rabbitmq.addresses import BrokerUrls
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.secret import Secret
from rabbitray.cluster.broker import PrivateBroker
from tests.kit.broker_users import Rights, user_with
from tests.kit.eventually import eventually
from tests.kit.fixtures import NOWHERE


async def test_a_password_that_is_rotated_under_a_router(
    broker: PrivateBroker, amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with user_with(broker, amqp_url, Rights(configure=".*", write=".*", read=".*")) as url:
        got: list[Delivery] = []
        config = IntakeConfig(url=Secret(url), topology=Topology(queue="jobs"), limits=MessageLimits())
        intake = Intake(config, on_delivery=got.append, on_lost=lambda _: None)
        await intake.open()
        await intake.consume(10)
        assert intake.refused is None
        parts = urlsplit(url)
        assert parts.username is not None
        broker.api("PUT", f"/api/users/{parts.username}", {"password": "another-one", "tags": ""})
        broker.ctl("close_all_user_connections", parts.username, "rotated")
        try:
            assert await eventually(lambda: intake.refused, within_s=20)
            assert intake.refused is not None
            assert intake.refused.startswith("login refused; check user and password in RABBITMQ_URL (RabbitMQ: ACCESS")
            assert "RabbitMQ: login refused; check user and password" in caplog.text
            assert str(parts.password) not in caplog.text
            await asyncio.sleep(1)
            assert not intake.connected
            broker.api("PUT", f"/api/users/{parts.username}", {"password": str(parts.password), "tags": ""})
            await _publish(amqp_url)
            assert await eventually(lambda: got, within_s=30)
            assert intake.refused is None
            assert intake.connected
        finally:
            await intake.close()


async def test_a_password_that_is_rotated_in_the_file_is_taken_from_it(
    broker: PrivateBroker, amqp_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Router and publisher go on by themselves; the file holds a second address, which nobody needs."""
    caplog.set_level(logging.INFO)
    with user_with(broker, amqp_url, Rights(configure=".*", write=".*", read=".*")) as url:
        parts, file = urlsplit(url), tmp_path / "url"
        write_urls(file, url)
        urls = BrokerUrls(f"{url} {NOWHERE}", file)
        got: list[Delivery] = []
        config = IntakeConfig(url=urls, topology=Topology(queue="jobs"), limits=MessageLimits())
        intake = Intake(config, on_delivery=got.append, on_lost=lambda _: None)
        await intake.open()
        async with Publisher(PublisherConfig(url=urls, queue="jobs", confirm_timeout_s=30.0)) as publisher:
            try:
                await intake.consume(10)
                assert parts.username is not None
                broker.api("PUT", f"/api/users/{parts.username}", {"password": "rotated-word", "tags": ""})
                write_urls(file, url.replace(str(parts.password), "rotated-word"))
                broker.ctl("close_all_user_connections", parts.username, "rotated")
                assert await eventually(lambda: intake.reconnects, within_s=20)
                await publisher.publish(Job())
                assert await eventually(lambda: got, within_s=20)
                assert intake.refused is None
            finally:
                await intake.close()
        assert "rotated-word" not in caplog.text
        assert "login refused" not in caplog.text


def write_urls(file: Path, url: str) -> None:
    file.touch(mode=0o600)
    file.write_text(f"{url}\n{NOWHERE}\n")


async def _publish(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(b"{}", message_id="m1"), "jobs")
