"""What goes back to the queue is in the traces as a `nack`, beside the `ack` of what was finished."""

from __future__ import annotations

import aio_pika
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.secret import Secret
from rabbitray.actors.telemetry.tracing import Tracing
from tests.kit.eventually import eventually

TRACE = f"{7:032x}"


async def test_each_give_back_is_one_span_linked_to_its_messages(amqp_url: str) -> None:
    """Three come, one is finished, one is given back, and the last one goes back when the channel closes."""
    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    got: list[Delivery] = []
    config = IntakeConfig(url=Secret(amqp_url), topology=Topology(queue="jobs"), limits=MessageLimits())
    tracing = Tracing(queue="jobs", provider=provider)
    intake = Intake(config, on_delivery=got.append, on_lost=lambda _: None, tracing=tracing)
    await intake.open()
    async with await aio_pika.connect(amqp_url) as connection:
        exchange = (await connection.channel()).default_exchange
        for number in range(1, 4):
            headers: aio_pika.abc.HeadersType = {"traceparent": f"00-{TRACE}-{number:016x}-01"}
            await exchange.publish(aio_pika.Message(b"{}", message_id=f"m{number}", headers=headers), "jobs")
    await intake.consume(3)
    await eventually(lambda: len(got) == 3)
    await intake.pause()
    intake.finish(got[:1])
    intake.give_back(got[1:2])
    intake.give_back(got[1:2])  # it is back already
    await intake.close()
    given_back, closing = memory.get_finished_spans()
    assert {given_back.name, closing.name} == {"nack jobs"}
    assert given_back.attributes is not None
    assert given_back.attributes["messaging.operation.type"] == "settle"
    (link,) = given_back.links
    assert (f"{link.context.trace_id:032x}", link.context.span_id) == (TRACE, 2)
    assert link.attributes == {"messaging.message.id": "m2"}
