"""A pause shows in the traces of the messages that it sends back."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from rabbitray.actors.message.job import Job
from rabbitray.actors.remote.boot import Actor
from rabbitray.actors.telemetry.tracing import Tracing
from tests.kit.eventually import eventually
from tests.kit.otlp_receiver import OtlpReceiver
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import pool_of


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
async def test_a_pause_shows_in_the_traces_of_the_messages_that_it_sends_back(amqp_url: str, tmp_path: Path) -> None:
    with OtlpReceiver() as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        loaded = settings_for(amqp_url, tmp_path, environ, initial_size=1, min_size=1, max_size=1)
        async with pool_of(loaded) as pool:
            tracer = Tracing(queue=loaded.settings.queue, provider=TracerProvider())
            with tracer.publish_span(loaded.settings.queue, count=60):
                await pool.publish([Job(payload={"do": "slow", "s": 0.3}) for _ in range(60)], tracer=tracer)
            router = pool.service.router.actor
            assert router is not None
            await eventually(lambda: waits(router), message="nothing waits for the only worker")
            await router.pause.remote("the test")
            name = f"nack {loaded.settings.queue}"
            spans = await eventually(lambda: receiver.named(name), message="no nack was traced")
    assert all(span.links for span in spans)
    assert {span.resource["rabbitray.role"] for span in spans} == {"router"}
    assert all("server.address" in span.attributes for span in spans)


async def waits(router: Actor) -> bool:
    """Whether something is buffered, and not dispatched."""
    return bool((await router.status.remote()).buffered)
