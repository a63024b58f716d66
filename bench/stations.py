"""What one message costs in each station that is plain code, measured alone: microseconds, the least of repeats.

The message is the report's entry (3.1) as our publisher writes it. `deserialize` is the body to a Job, types and
bounds checked with it; `validate` is what comes on top: identity, attempt, one unit of work. `ack` is a share of one
`multiple` frame for a batch of 100.
"""

from __future__ import annotations

import itertools
import time
import timeit
from collections.abc import Callable, Sequence

from aiormq.abc import DeliveredMessage
from pamqp import commands as spec
from pamqp.header import ContentHeader

from rabbitray.actors.message import headers
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import MessageLimits, decode, encode
from rabbitray.actors.router.intake.ack_sender import AckSender
from rabbitray.actors.router.intake.frame_writer import Frame
from rabbitray.actors.router.intake.reading import read_delivery
from rabbitray.actors.telemetry.metrics import MetricsBuffer, Totals
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.actors.worker.batch.decoding import IdentityRules, decode_parcels

BATCH = 100
LIMITS, RULES = MessageLimits(), IdentityRules()


def costs_us(number: int = 20_000) -> dict[str, float]:
    """Microseconds per message of: dequeue, deserialize, validate, ack, metrics."""
    message = delivered(Job(user_id="user-123", message_type="BIRTHDAY"))
    parcel = read_delivery(message, generation=1, consumer=1, limits=LIMITS).parcel
    decoding = _us(lambda: decode(parcel.body, parcel.content_type, "", LIMITS), number)
    parcels = [parcel] * BATCH
    units = _us(lambda: decode_parcels(parcels, LIMITS, RULES), number // BATCH) / BATCH
    metrics = MetricsBuffer(Totals())
    return {
        "dequeue": _us(lambda: read_delivery(message, generation=1, consumer=1, limits=LIMITS), number),
        "deserialize": decoding,
        "validate": round(max(0.0, units - decoding), 2),
        "ack": _us(_acking(), number // BATCH) / BATCH,
        "metrics": _us(lambda: metrics.record("done"), number),
    }


def delivered(job: Job) -> DeliveredMessage:
    """A message as aiormq hands it over."""
    body, content_type = encode(job)
    properties = spec.Basic.Properties(
        content_type=content_type,
        delivery_mode=2,
        message_id=job.id,
        headers={headers.PUBLISHED: time.time_ns() // 1_000_000},
    )
    return DeliveredMessage(
        delivery=spec.Basic.Deliver(
            consumer_tag="bench", delivery_tag=1, redelivered=False, exchange="", routing_key="q"
        ),
        header=ContentHeader(body_size=len(body), properties=properties),
        body=body,
        channel=None,  # type: ignore[arg-type] # nothing is sent through it
    )


def _acking() -> Callable[[], object]:
    acks, tags = AckSender(_marshal, single_after_s=0.2, tracing=Tracing(queue="bench")), itertools.count(1)

    def step() -> None:
        batch = list(itertools.islice(tags, BATCH))
        for tag in batch:
            acks.delivered(tag)
        acks.finish(batch)

    return step


def _marshal(frames: Sequence[Frame]) -> None:
    for frame in frames:
        frame.marshal()


def _us(work: Callable[[], object], number: int) -> float:
    return round(min(timeit.repeat(work, number=number, repeat=3)) / number * 1e6, 2)
