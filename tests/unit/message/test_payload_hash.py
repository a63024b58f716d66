"""What tells another payload from the same one, and what does not."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.message.headers import JSON, MSGPACK, PACKED
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.payload_hash import HASH_BYTES, as_column, payload_hash
from rabbitray.actors.message.wire import MessageLimits, encode, pack, split
from rabbitray.actors.worker.decoding import IdentityRules, decode_parcels
from tests.kit.deliveries import parcel

JOB = Job(id="a", user_id="u", message_type="BIRTHDAY", payload={"to": "ann", "year": 1990, "tags": ["x"]})


def hashes(body: bytes, content_type: str, content_encoding: str = "") -> list[bytes]:
    """As a worker has them."""
    message = parcel(body, content_type=content_type, content_encoding=content_encoding)
    units, failures = decode_parcels([message], MessageLimits(), IdentityRules())
    assert not failures
    return [unit.payload_hash for unit in units]


def turned(value: Any) -> Any:
    """The same document, its fields in another order."""
    return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value


def test_a_job_has_one_hash_however_it_was_sent() -> None:
    body, _ = pack([JOB, msgspec.structs.replace(JOB, payload="another")])
    sent = [
        *(hashes(*encode(JOB, form=form)) for form in ("msgpack", "compact_json", "verbose_json")),
        hashes(gzip.compress(encode(JOB)[0]), MSGPACK, "gzip"),
        hashes(msgspec.json.encode(turned(msgspec.json.decode(encode(JOB, form="verbose_json")[0]))), JSON),
        hashes(*encode(msgspec.structs.replace(JOB, timestamp_ms=7, scheduled_at=datetime.now(UTC), retry_count=3))),
        hashes(body, PACKED)[:1],
        hashes(split(body)[0], MSGPACK),
    ]
    assert {tuple(one) for one in sent} == {(payload_hash(JOB, b""),)}
    assert hashes(body, PACKED)[1] != payload_hash(JOB, b"")


@pytest.mark.parametrize(
    "change",
    [
        {"payload": {"to": "ann", "year": 1991, "tags": ["x"]}},
        {"payload": None},
        {"payload": msgspec.msgpack.encode(JOB.payload)},
        {"user_id": "v"},
        {"user_id": None},
        {"message_type": "BIRTHDAYu", "user_id": ""},
    ],
)
def test_another_payload_type_or_user_is_another_hash(change: dict[str, Any]) -> None:
    assert payload_hash(msgspec.structs.replace(JOB, **change), b"") != payload_hash(JOB, b"")


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
    assert len(found) == HASH_BYTES
    assert [found] == hashes(document, content_type)
    assert found != payload_hash(Job(id=None), b"")


@given(
    document=st.dictionaries(
        st.text(max_size=5),
        st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.lists(st.floats(allow_nan=False)),
        max_size=5,
    )
)
def test_the_order_of_fields_changes_nothing_and_one_more_does(document: dict[str, object]) -> None:
    def found(payload: object) -> bytes:
        return payload_hash(Job(id="x", payload=payload), b"")

    assert found(turned(document)) == found(document)
    assert found(document | {"one more": 1}) != found(document)


def test_the_column_has_the_hashes_as_numbers() -> None:
    found = [payload_hash(Job(id="x", payload=number), b"") for number in range(3)]
    assert as_column(found).to_pylist() == [int.from_bytes(one, "little") for one in found]
    assert as_column([]).to_pylist() == []
