"""What tells another payload from the same one, and what does not."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from typing import Any

import msgpack
import msgspec
import pytest

from rabbitray.actors.message.headers import JSON, MSGPACK, PACKED
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.payload_hash import payload_hash
from rabbitray.actors.message.wire import MessageLimits, encode, pack, split
from rabbitray.actors.worker.batch.decoding import IdentityRules, decode_parcels
from tests.kit.deliveries import parcel

JOB = Job(id="a", user_id="u", message_type="BIRTHDAY", payload={"to": "ann", "year": 1990, "tags": ["x"]})


def hashes(body: bytes, content_type: str, content_encoding: str = "") -> list[int]:
    """As a worker has them."""
    message = parcel(body, content_type=content_type, content_encoding=content_encoding)
    units, failures = decode_parcels([message], MessageLimits(), IdentityRules())
    assert not failures
    return [unit.payload_hash for unit in units]


def turned(value: Any) -> Any:
    """The same document, its fields in another order."""
    return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value


def test_a_job_has_one_hash_alone_and_in_a_packed_message_whatever_times_are_beside_it() -> None:
    body, _ = pack([JOB, msgspec.structs.replace(JOB, payload="another")])
    times = {"timestamp_ms": 7, "scheduled_at": datetime.now(UTC)}
    sent = [
        hashes(*encode(JOB)),
        hashes(gzip.compress(encode(JOB)[0]), MSGPACK, "gzip"),
        hashes(*encode(msgspec.structs.replace(JOB, **times, retry_count=3))),
        hashes(body, PACKED)[:1],
        hashes(split(body)[0], MSGPACK),
        *(hashes(*encode(msgspec.structs.replace(JOB, timestamp_ms=n), form="verbose_json")) for n in (7, 8)),
    ]
    assert {tuple(one) for one in sent} == {(payload_hash(JOB),)}
    assert hashes(body, PACKED)[1] != payload_hash(JOB)


def test_json_counts_as_it_came() -> None:
    body, kind = encode(JOB, form="verbose_json")
    assert hashes(body, kind) == hashes(body, f"{kind}; charset=utf-8") == [payload_hash(JOB, body)]
    other = msgspec.json.encode(turned(msgspec.json.decode(body)))
    assert hashes(other, kind) == [payload_hash(JOB, other)] != hashes(body, kind)


@pytest.mark.parametrize(
    "other", [{"to": "ann", "year": 1991, "tags": ["x"]}, None, {}, "ann", msgspec.msgpack.encode(JOB.payload)]
)
def test_another_payload_is_another_hash(other: object) -> None:
    assert payload_hash(Job(payload=other)) != payload_hash(JOB)


@pytest.mark.parametrize(
    "document",
    [
        msgpack.packb({b"bytes": 1, "text": 2}),
        msgpack.packb([msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 2), float("nan")]),
        b'{"big": 123456789012345678901234567890}',
    ],
)
def test_whatever_can_be_read_has_a_hash(document: bytes) -> None:
    content_type = JSON if document[:1] == b"{" else MSGPACK
    [found] = hashes(document, content_type)
    assert [found] == hashes(document, content_type)
    assert found not in (0, payload_hash(Job()))
    assert found < 2**64
