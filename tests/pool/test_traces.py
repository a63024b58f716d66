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


def _by_id(receiver: OtlpReceiver) -> dict[str, ReceivedSpan]:
    return {span.span_id: span for span in receiver.spans}


async def test_publisher_batch_commit_and_ack_are_connected(amqp_url: str, tmp_path: Path) -> None:
    with OtlpReceiver() as receiver:
        loaded = settings_for(
            amqp_url, tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        )
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(receiver.endpoint + "/v1/traces")))
        tracer = Tracing(queue=loaded.settings.queue, provider=provider)
        async with pool_of(loaded) as pool:
            with tracer.publish_span(loaded.settings.queue, "many", count=200):
                await pool.publish([Job(id=f"job-{n}") for n in range(200)], tracer=tracer)
            await pool.acked(200)
            await pool.stop()
            trace_ids = {row["trace_id"] for row in pool.rows("SELECT DISTINCT trace_id FROM results")}
        provider.shutdown()
        queue = loaded.settings.queue
        published = {span.span_id: span for span in receiver.named(f"publish {queue}")}
        batches = receiver.named(f"process {queue}")
        links = [link for batch in batches for link in batch.links]
        assert len(links) == 200, "one link for each message"
        assert {link.span_id for link in links} <= set(published)
        assert trace_ids == {span.trace_id for span in published.values()}
        batch_ids = {batch.span_id for batch in batches}
        for name in ("INSERT results", f"ack {queue}"):
            linked = {link.span_id for span in receiver.named(name) for link in span.links}
            assert linked == batch_ids, name
        assert {span.resource["service.name"] for span in batches} == {"rabbitray"}


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


async def test_a_dead_collector_costs_no_message(amqp_url: str, tmp_path: Path) -> None:
    loaded = settings_for(amqp_url, tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    async with pool_of(loaded) as pool:
        await pool.publish([Job(id=f"job-{n}") for n in range(300)])
        await pool.acked(300)
        drained = await eventually(pool.stop, within_s=40)
        assert drained.clean
