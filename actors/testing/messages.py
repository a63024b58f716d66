"""What may be handed to `work`, as the parcel that a worker would get of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rabbitray.actors.errors import EncodeError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.keys import DEFAULT_RULE, KeyRule
from rabbitray.actors.message.message import Message
from rabbitray.actors.message.parcel import Parcel
from rabbitray.actors.message.properties.property_list import from_raw
from rabbitray.actors.message.properties.route import route_of
from rabbitray.actors.message.wire import MessageLimits, encode
from rabbitray.actors.router.intake.reading import read_message
from rabbitray.actors.testing.properties import properties_alone, properties_of


def parcel_of(
    message: Job | Message | Mapping[str, Any] | bytes,  # Any: a JSON document
    rule: KeyRule = DEFAULT_RULE,
) -> Parcel:
    """A message of a test as it would arrive; `rule`: where its key is.

    Raises EncodeError for one that cannot be sent.
    """
    match message:
        case Message():
            return _delivered(message, rule)
        case Job():
            return _delivered(_sent(message), rule)
        case bytes():
            return _delivered(Message(body=message, content_type=h.MSGPACK), rule)
        case _:
            return _delivered(Message(body=msgspec.json.encode(message), content_type=h.JSON), rule)


def record_alone(parcel: Parcel, body: bytes, content_type: str) -> Parcel:
    """One record of a packed message as its copy would arrive."""
    envelope = parcel.envelope
    if envelope is not None:
        envelope = msgspec.structs.replace(envelope, raw=properties_alone(envelope.raw, content_type))
    return msgspec.structs.replace(parcel, body=body, content_type=content_type, content_encoding="", envelope=envelope)


def _sent(job: Job) -> Message:
    """As our publisher sends it; with the key and the attempt that its copy would have."""
    body, content_type = encode(job)
    headers = {h.KEY: job.key, h.ATTEMPT: job.attempt or None}
    headers = {name: value for name, value in headers.items() if value is not None}
    return Message(body=body, content_type=content_type, message_id=job.id, headers=headers)


def _delivered(message: Message, rule: KeyRule) -> Parcel:
    """Read as the router reads a delivery; with the envelope, which a pool sends to handlers that ask."""
    if not isinstance(message.body, bytes):
        raise EncodeError(f"the body of a message is bytes, not {type(message.body).__name__}: {message.body!r:.60}")
    delivery = read_message(
        from_raw(properties_of(message)),
        message.body,
        tag=1,
        redelivered=message.redelivered,
        generation=1,
        consumer=1,
        limits=MessageLimits(),
        rule=rule,
    )
    delivery.route = route_of(message.exchange, message.routing_key)
    return delivery.with_envelope((delivery.route,))  # a test may hand over what a copy of ours would be
