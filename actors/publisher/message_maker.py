"""Maker: jobs -> messages ready to send, stamped. Pure but for the clock; may be called from any thread."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from rabbitray.actors.errors import EncodeError
from rabbitray.actors.message.headers import PACKED, PUBLISHED, RECORDS
from rabbitray.actors.message.job import Job, uuid7
from rabbitray.actors.message.wire import encode, join_records
from rabbitray.actors.message.wire.encode import encode_record
from rabbitray.actors.publisher.amqp import frames
from rabbitray.actors.publisher.config import PublisherConfig
from rabbitray.actors.publisher.message import EncodedMessage, Outgoing, Tracer

_NO_HEADERS: Mapping[str, Any] = {}  # Any: AMQP header values

PACKED_OVERHEAD = 8  # head and checksum of a packed body


class Maker:
    """Encodes jobs as the config says, to the config's destination."""

    __slots__ = ("_codes", "_destination", "_form", "_max_bytes", "_method", "_routing_key", "_tracer")

    def __init__(self, config: PublisherConfig, tracer: Tracer | None = None) -> None:
        self._tracer = tracer
        self._destination = ":".join(part for part in (config.exchange, config.destination_key) if part)
        self._routing_key = config.destination_key
        self._form = config.form
        self._codes = config.codes
        self._max_bytes = config.max_message_bytes
        self._method = frames.publish_method(config.exchange, config.destination_key)

    @contextmanager
    def span(self, job: Job) -> Iterator[None]:
        """Enter the span of one publish; messages made inside carry it."""
        if self._tracer is None:
            yield
        else:
            with self._tracer.publish_span(self._destination, job.id or "", routing_key=self._routing_key):
                yield

    def job(self, job: Job) -> Outgoing:
        """Return the message of one job. Raises EncodeError; a job without an id gets a new one."""
        if job.id is None:
            job = _with_id(job)
        body, content_type = encode(job, form=self._form, codes=self._codes)
        return self._stamped(body, content_type, job.id or "", self._context())

    def record(self, job: Job) -> bytes:
        """Return one job as a record for `packed`. Raises EncodeError, also where it could not go alone."""
        record = encode_record(job if job.id is not None else _with_id(job), self._codes)
        self._require_size(record, PACKED_OVERHEAD)
        return record

    def packed(self, records: list[bytes]) -> Outgoing:
        """Return one message for many encoded records; it has a message id of its own."""
        headers = {**self._context(), RECORDS: len(records)}
        return self._stamped(join_records(records), PACKED, uuid7(), headers)

    def message(self, message: EncodedMessage, *, body_size: int | None = None) -> Outgoing:
        """Return a message made elsewhere, e.g. a retry copy, ready to send as it is. Raises EncodeError.

        Its body may have any size: a dead letter is not to be refused for what it died of. `body_size`: of one that
        is sent apart.
        """
        if not message.message_id:
            raise EncodeError("a message needs a message_id, which errors and traces name it by")
        header = _header(message, len(message.body) if body_size is None else body_size)
        method = frames.publish_method(message.exchange, message.routing_key)
        return Outgoing(method=method, header=header, body=message.body, message_id=message.message_id)

    def _context(self) -> Mapping[str, Any]:  # Any: AMQP header values
        if self._tracer is None:
            return _NO_HEADERS
        headers: dict[str, Any] = {}
        self._tracer.inject(headers)
        return headers

    def _stamped(self, body: bytes, content_type: str, message_id: str, headers: Mapping[str, Any]) -> Outgoing:
        self._require_size(body)
        now_ms = time.time_ns() // 1_000_000
        header = frames.content_header(
            body_size=len(body),
            headers=frames.table({**headers, PUBLISHED: now_ms}) if headers else frames.published_only(now_ms),
            message_id=message_id,
            timestamp_s=now_ms // 1000,
            content_type=content_type,
        )
        return Outgoing(method=self._method, header=header, body=body, message_id=message_id)

    def _require_size(self, body: bytes, more: int = 0) -> None:
        if len(body) + more > self._max_bytes:
            raise EncodeError(f"the body has {len(body) + more} bytes, at most {self._max_bytes} are sent")


def _header(message: EncodedMessage, body_size: int) -> bytes:
    headers = frames.table(message.headers, message.entries)
    if message.properties:
        return frames.copied_header(body_size, message.properties, headers)
    return frames.content_header(
        body_size=body_size,
        headers=headers,
        message_id=message.message_id,
        timestamp_s=message.timestamp_s or int(time.time()),
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        priority=message.priority,
    )


def _with_id(job: Job) -> Job:
    return msgspec.structs.replace(job, id=uuid7())
