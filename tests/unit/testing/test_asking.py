"""Handlers that ask for a typed payload or the whole message, in the kit: as a worker calls them."""

from __future__ import annotations

import contextvars
import gzip
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

import rabbitray
from rabbitray import Job, Message, Reject, Retry, batch, testing
from rabbitray.actors.errors import EncodeError
from rabbitray.actors.message.headers import JOB_MSGPACK
from rabbitray.actors.message.wire import pack
from rabbitray.testing import work
from tests.kit import asking_handlers
from tests.kit.asking_handlers import Line, Order

HANDLERS = "tests.kit.asking_handlers"
BODY = b'{"id": "o-1", "lines": [{"price": 9.5}]}'


def sent(body: bytes = BODY, **changes: Any) -> Message:
    plain = {"content_type": "application/json", "message_id": "m-1", "type": "order.created"}
    return Message(body=body, **(plain | changes))


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("an_order", ["Order", "o-1"]),
        ("a_model", ["Model", "o-1"]),
        ("data", ["Data", "o-1"]),
        ("mapped", ["dict", "o-1"]),
        ("a_map", ["dict", "o-1"]),
        ("an_order_or_none", "o-1"),
        ("a_job_of_an_order", [None, "Order", "o-1"]),
        ("a_message", "order.created"),
        ("job_and_message", ["m-1", "order.created"]),
        ("message_and_job", ["m-1", "order.created"]),
        ("message_and_something", ["m-1", "order.created"]),
        ("order_and_message", ["o-1", "order.created"]),
        ("message_and_order", ["o-1", "order.created"]),
        ("typed_job_and_message", ["o-1", "order.created"]),
        ("message_with_a_default", "order.created"),
        ("message_and_a_default", ["order.created", "here"]),
        ("awaited", ["o-1", "order.created"]),
        ("Called", ["o-1", "order.created"]),
        ("CalledAwaited", ["o-1", "order.created"]),
        ("CalledStatic", ["o-1", "order.created"]),
        ("CalledOfGeneric", ["o-1", "order.created"]),
        ("PARTIAL", ["o-1", "order.created"]),
        ("OBJECT", ["o-1", "order.created"]),
        ("wrapped", ["o-1", "order.created"]),
        ("CalledWrapped", ["o-1", "order.created"]),
        ("parsed", "o-1"),
        ("jobs_of_orders", [None, "o-1"]),
        ("orders", "o-1"),
        ("orders_and_messages", ["o-1", "order.created"]),
        ("MessagesCalled", "order.created"),
    ],
)
def test_every_shape_gets_what_it_asks_for(name: str, result: object) -> None:
    outcomes = work(f"{HANDLERS}:{name}", [sent(), sent()])
    assert [(outcome.status, outcome.result, outcome.error) for outcome in outcomes] == [("DONE", result, None)] * 2


def test_a_foreign_message_reaches_the_handler_as_it_was_sent() -> None:
    got: list[Message] = []
    message = sent(
        content_encoding="identity",
        headers={
            "tenant": "acme",
            "n": 7,
            "deep": {"list": [1.5, True, None, b"\xff"]},
            "at": datetime(2026, 1, 2, tzinfo=UTC),
        },
        exchange="shop",
        routing_key="orders.eu",
        correlation_id="c-1",
        reply_to="answers",
        app_id="shop",
        user_id="guest",
        priority=3,
        timestamp=1_767_355_200,
        expires_at=datetime(2026, 1, 2, 12, tzinfo=UTC),
        redelivered=True,
        delivery_count=2,
    )

    def handle(message: Message) -> None:
        got.append(message)
        if len(got) == 1:
            raise Retry

    handle.__annotations__ = {"message": Message}
    [outcome] = work(handle, [message], follow_retries=True)
    assert (outcome.status, outcome.attempts) == ("DONE", 2)
    assert got == [message, message]


def test_our_own_headers_count_and_are_not_shown() -> None:
    headers = {"x-rabbitray-key": "k-1", "x-rabbitray-attempt": 2, "own": "yes"}
    [outcome] = work(lambda job: [job.key, job.attempt], [sent(headers=headers)])
    assert (outcome.result, outcome.attempts) == (["k-1", 2], 3)

    def shown(message: Any) -> object:
        return message.headers

    shown.__annotations__ = {"message": Message}
    assert [one.result for one in work(shown, [sent(headers=headers)])] == [{"own": "yes"}]


def test_there_is_one_class_of_messages() -> None:
    assert testing.Message is rabbitray.Message


@pytest.mark.parametrize(
    "wrong", [{"headers": {"a": {1}}}, {"type": "x" * 256}, {"priority": 300}, {"headers": {1: 2}}]
)
def test_what_amqp_cannot_carry_is_an_error_of_the_test(wrong: dict[str, Any]) -> None:
    with pytest.raises(EncodeError, match="AMQP cannot carry this message"):
        work(print, [sent(**wrong)])


def test_each_record_of_a_packed_message_is_typed_and_has_the_whole_message() -> None:
    body, kind = pack([Job(id=f"j{n}", payload={"id": f"o-{n}"}) for n in range(2)])
    outcomes = work(f"{HANDLERS}:typed_job_and_message", [Message(body=body, content_type=kind, type="many")])
    assert [outcome.result for outcome in outcomes] == [["o-0", "many"], ["o-1", "many"]]


def test_a_record_that_runs_again_is_a_message_of_its_own() -> None:
    """As the copy in a rung is: its content type, encoding and headers are those of its own body."""

    def shown(job: Any, message: Any) -> object:
        if job.attempt == 0:
            raise Retry
        return [message.content_type, message.content_encoding, dict(message.headers), message.type]

    shown.__annotations__ = {"message": Message}
    body, kind = pack([Job(id="a"), Job(id="b")])
    for how in ({"content_encoding": "gzip"}, {"headers": {"compression": "gzip"}}):
        packed = Message(body=gzip.compress(body), content_type=kind, type="many", **how)  # type: ignore[arg-type] # one
        found = work(shown, [packed], follow_retries=True)
        assert [one.result for one in found] == [[JOB_MSGPACK, None, {}, "many"]] * 2


@pytest.mark.parametrize("name", ["an_order", "a_model", "data", "mapped", "a_job_of_an_order", "awaited", "Called"])
def test_what_does_not_fit_is_a_dead_letter_with_the_path_of_the_field(name: str) -> None:
    wrong = sent(b'{"id": "o-1", "lines": [{"price": 1}, {"price": "free"}]}')
    good, bad, other = work(f"{HANDLERS}:{name}", [sent(), wrong, sent()])
    assert (good.status, other.status) == ("DONE", "DONE")
    assert (bad.status, bad.reason, bad.category, bad.attempts) == ("DEAD", "invalid_payload", "permanent", 1)
    assert bad.error_class == "InvalidPayloadError"
    assert bad.error is not None
    assert bad.error.startswith("$.lines[1].price: ")
    assert "free" not in bad.error


def test_it_is_no_matter_of_the_users_own_categories() -> None:
    [bad] = work(f"{HANDLERS}:an_order", [sent(b"{}")], error_categories={"Exception": "transient"})
    assert (bad.status, bad.reason) == ("DEAD", "invalid_payload")


def test_the_text_of_it_is_short() -> None:
    [bad] = work(f"{HANDLERS}:a_map", [sent(b'["' + b"s" * 10_000 + b'"]')])
    assert bad.error == "$: Expected object, got array"

    def picky(picky: Any) -> None: ...

    picky.__annotations__ = {"picky": Picky}
    [bad] = work(picky, [{"s" * 10_000: 1}])
    assert bad.error is not None
    assert bad.error.startswith("$: Object contains unknown field `sss")
    assert len(bad.error) == 500


class Picky(msgspec.Struct, forbid_unknown_fields=True):
    """Takes nothing."""


def test_of_a_batch_only_what_does_not_fit_is_parked_and_the_others_are_called_once() -> None:
    asking_handlers.calls.clear()
    messages = [sent(b'{"id": "a"}'), sent(b'{"id": 7}'), sent(b'{"id": "c"}')]
    first, bad, last = work(f"{HANDLERS}:orders", messages)
    assert (first.result, bad.reason, last.result) == ("a", "invalid_payload", "c")
    assert bad.error == "$.id: Expected str, got int"
    assert asking_handlers.calls == [["a", "c"]]


def test_a_batch_that_fails_runs_what_fits_alone() -> None:
    asking_handlers.calls.clear()
    messages = [sent(b'{"id": "bad"}'), sent(b'{"id": 7}'), sent(b'{"id": "c"}')]
    first, bad, last = work(f"{HANDLERS}:orders", messages)
    assert (first.result, bad.reason, last.result) == ("bad", "invalid_payload", "c")
    assert asking_handlers.calls == [["bad", "c"], ["bad"], ["c"]]


class Counted(msgspec.Struct):
    n: int

    def __post_init__(self) -> None:
        checks.append(self.n)
        if self.n == 7:
            raise ValueError("not this one")


checks: list[int] = []


def test_what_does_not_fit_is_not_looked_at_again() -> None:
    checks.clear()

    @batch
    def fails_together(orders: Any) -> list[int]:
        if len(orders) > 1:
            raise ConnectionError
        return [order.n for order in orders]

    fails_together.__annotations__ = {"orders": list[Counted]}
    outcomes = work(fails_together, [sent(b'{"n": %d}' % n) for n in (1, 7, 2)])
    assert [outcome.status for outcome in outcomes] == ["DONE", "DEAD", "DONE"]
    assert checks == [1, 7, 2, 1, 2]


def test_a_second_call_gets_payloads_that_nobody_has_touched() -> None:
    @batch
    def spoils(jobs: Any) -> list[int]:
        for job in jobs:
            job.payload.lines.append(Line(price=1))
        if len(jobs) > 1:
            raise ConnectionError
        return [len(job.payload.lines) for job in jobs]

    spoils.__annotations__ = {"jobs": list[Job[Order]]}
    assert [outcome.result for outcome in work(spoils, [sent(), sent()])] == [2, 2]


def test_a_batch_of_which_nothing_fits_is_not_called() -> None:
    asking_handlers.calls.clear()
    outcomes = work(f"{HANDLERS}:orders", [sent(b"[]"), sent(b"7")])
    assert [outcome.reason for outcome in outcomes] == ["invalid_payload"] * 2
    assert asking_handlers.calls == []


def test_the_only_one_of_a_batch_that_fits_is_not_run_twice_when_it_fails() -> None:
    calls = []

    @batch
    def fails(orders: Any) -> None:
        calls.append(len(orders))
        raise Reject("no")

    fails.__annotations__ = {"orders": list[Order]}
    good, bad = work(fails, [sent(), sent(b"[]")])
    assert (good.reason, bad.reason, calls) == ("rejected", "invalid_payload", [1])


SEEN: contextvars.ContextVar[int] = contextvars.ContextVar("seen", default=0)


class Noting(msgspec.Struct):
    """Its check leaves something in the context, which the next job is not to see."""

    n: int

    def __post_init__(self) -> None:
        SEEN.set(SEEN.get() + 1)
        if self.n == 1:
            raise Retry("later")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_validator_runs_as_the_handlers_own_code(asynchronous: bool) -> None:
    def handle(noting: Any) -> int:
        return SEEN.get()

    async def handle_async(noting: Any) -> int:
        return SEEN.get()

    handler = handle_async if asynchronous else handle
    handler.__annotations__ = {"noting": Noting}
    outcomes = work(handler, [sent(b'{"n": %d}' % n) for n in range(3)], queue_concurrency=1)
    assert [(one.status, one.result, one.reason) for one in outcomes] == [
        ("DONE", 1, None),
        ("RETRY", None, "retry_requested"),
        ("DONE", 1, None),
    ]


def test_the_job_that_was_received_stays_as_it_came() -> None:
    def spoils(job: Any) -> None:
        job.payload.lines.append(Line(price=1))
        raise Retry

    spoils.__annotations__ = {"job": Job[Order]}
    [outcome] = work(spoils, [sent()])
    assert outcome.job is not None
    assert outcome.job.payload == {"id": "o-1", "lines": [{"price": 9.5}]}
