"""Traces of a running pool at a real OTLP/HTTP endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from rabbitray.actors.message.job import Job
from rabbitray.actors.telemetry.tracing import Tracing
from tests.kit.eventually import eventually
from tests.kit.otlp_receiver import OtlpReceiver, ReceivedSpan
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import RunningPool, pool_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


async def test_publisher_batch_commit_and_ack_are_connected_and_a_pause_is_shown(amqp_url: str, tmp_path: Path) -> None:
    """200 messages are worked; of 30 slow ones for the only worker, a pause sends back those that wait for it."""
    with OtlpReceiver() as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        loaded = settings_for(amqp_url, tmp_path, environ, initial_size=1, min_size=1, max_size=1, batch_size=5)
        queue = loaded.settings.queue
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(receiver.endpoint + "/v1/traces")))
        tracer = Tracing(queue=queue, provider=provider)
        async with pool_of(loaded) as pool:
            with tracer.publish_span(queue, "many", count=200):
                await pool.publish([Job(id=f"job-{n}") for n in range(200)], tracer=tracer)
            await pool.acked(200)
            published = receiver.named(f"publish {queue}")
            with tracer.publish_span(queue, count=30):
                await pool.publish([Job(payload={"do": "slow", "s": 0.3}) for _ in range(30)], tracer=tracer)
            await pause_while_something_waits(pool)
            nacked = await eventually(lambda: receiver.named(f"nack {queue}"), message="no nack was traced")
            await pool.stop()
            rows = pool.rows("SELECT DISTINCT trace_id FROM results WHERE key LIKE 'job-%'")
        provider.shutdown()
        trace_ids = {row["trace_id"] for row in rows}
        assert trace_ids == {span.trace_id for span in published}
        batches = receiver.named(f"process {queue}")
        links = [link for batch in batches for link in batch.links if link.trace_id in trace_ids]
        assert len(links) == 200, "one link for each message"
        assert {link.span_id for link in links} <= {span.span_id for span in published}
        batch_ids = {batch.span_id for batch in batches if any(link.trace_id in trace_ids for link in batch.links)}
        for name in ("INSERT results", f"ack {queue}"):
            linked = {link.span_id for span in receiver.named(name) for link in span.links}
            assert batch_ids <= linked <= {batch.span_id for batch in batches}, name
        assert {span.resource["service.name"] for span in batches} == {"rabbitray"}
        check_nacked(nacked)


async def pause_while_something_waits(pool: RunningPool) -> None:
    """What is buffered, and not dispatched, is sent back."""
    router = pool.service.router.actor
    assert router is not None

    async def waits() -> bool:
        return bool((await router.status.remote()).buffered)

    await eventually(waits, message="nothing waits for the only worker")
    await router.pause.remote("the test")


def check_nacked(spans: list[ReceivedSpan]) -> None:
    assert all(span.links for span in spans)
    assert {span.resource["rabbitray.role"] for span in spans} == {"router"}
    assert all("server.address" in span.attributes for span in spans)


async def test_the_autoscalers_last_spans_arrive_and_say_from_where_to_where(amqp_url: str, tmp_path: Path) -> None:
    """The exporter sends once in ten minutes: what arrives was sent by the clean stop."""
    with OtlpReceiver() as receiver:
        loaded = settings_for(
            amqp_url, tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
        )
        async with pool_of(loaded) as pool:
            autoscaler = pool.service.autoscaler.actor
            assert autoscaler is not None
            for asked, held in ((3, 3), (9, 4)):
                assert await autoscaler.fix.remote(asked) == held
                await eventually(lambda size=held: _target_is(pool, size), within_s=30)
            assert receiver.named(f"resize {loaded.settings.queue}") == []
            await pool.stop()
        resized = [span.attributes for span in receiver.named(f"resize {loaded.settings.queue}")]
        assert [(one["rabbitray.pool.had"], one["rabbitray.pool.wanted"]) for one in resized] == [(2, 3), (3, 4)]


async def _target_is(pool: RunningPool, size: int) -> bool:
    return bool((await pool.report()).pool.target == size)
