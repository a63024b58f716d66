"""Type codes of one's own hold wherever a body is read, not in the publisher alone."""

from __future__ import annotations

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import REPORT_CODES, encode
from rabbitray.actors.testing import Message, work
from rabbitray.cluster.results.dead_letters import readable

OWN = {"C": "CHRISTMAS"}
CODES = REPORT_CODES.extended(OWN)
BODY, _ = encode(Job(id="1", message_type="CHRISTMAS"), codes=CODES)


def kind(job: Job) -> str:
    return job.message_type


def test_the_test_kit_reads_them() -> None:
    message = Message(body=BODY, content_type=h.MSGPACK)
    [outcome] = work(kind, [message], type_codes=OWN)
    assert outcome.result == "CHRISTMAS"
    [outcome] = work(kind, [message])
    assert (outcome.status, outcome.reason) == ("DEAD", "unknown_type_code")


def test_a_dead_letter_is_shown_with_them() -> None:
    row = {"body": BODY, "content_type": h.MSGPACK}
    assert readable(row, CODES)["jobs"] == [{"id": "1", "message_type": "CHRISTMAS"}]
    assert "unreadable" in readable(row)
