"""What a worker tells the router arrives as it was told, and a failure keeps what is known of its record."""

from __future__ import annotations

import msgspec

from rabbitray.actors.message.headers import MSGPACK
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.parcel import Record, records_of, whole_message
from rabbitray.actors.message.reply import Failure, Part, Usage, decode_part, encode_part
from rabbitray.actors.message.wire import MessageLimits, encode, pack
from tests.kit.deliveries import parcel

RECORD = Record(
    record=3,
    attempt=2,
    key="k",
    message_id="m",
    message_type="BIRTHDAY",
    body=b"one",
    content_type=MSGPACK,
)


def test_a_part_arrives_as_it_was_told() -> None:
    failures = [
        Failure.permanent(RECORD, "store_rejected", "no", "RejectedRow", position=7),
        Failure(
            position=1,
            verdict="retry",
            reason="exception",
            error="x",
            error_class="E",
            category="transient",
            after_s=1.5,
        ),
    ]
    part = Part(failures=failures, finished=[7, 1], jobs=2, busy_s=0.5, usage=Usage(cpu_percent=None, rss_bytes=1))
    assert decode_part(encode_part(part)) == part


def test_a_permanent_failure_keeps_all_that_is_known_of_the_record() -> None:
    failure = Failure.permanent(RECORD, "store_rejected", "no", "RejectedRow", position=7)
    kept = {name: getattr(failure, name) for name in Record.__struct_fields__}
    assert kept == msgspec.structs.asdict(RECORD)
    assert (failure.position, failure.verdict, failure.category) == (7, "dead", "permanent")


def test_a_message_that_was_not_decoded_is_one_record() -> None:
    assert whole_message(parcel(key="k", attempt=-1)) == Record(key="k", message_id="m-1")
    assert whole_message(parcel(attempt=4)) == Record(attempt=4, message_id="m-1")


def test_each_record_of_a_packed_message_has_its_own_key_and_body() -> None:
    body, content_type = pack([Job(id="a", message_type="BIRTHDAY"), Job(id="b")])
    records = records_of(parcel(body, content_type=content_type), MessageLimits())
    assert [(one.record, one.key, one.message_type) for one in records] == [(0, "a", "BIRTHDAY"), (1, "b", None)]
    assert all(one.body for one in records)
    body, content_type = encode(Job(id="c"))
    (alone,) = records_of(parcel(body, content_type=content_type), MessageLimits())
    assert (alone.key, alone.body, alone.content_type) == ("c", None, None)
