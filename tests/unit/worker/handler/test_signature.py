"""What a handler asks for: read from its parameters, in every shape; what cannot be had is one line."""

from __future__ import annotations

import pytest

from rabbitray.actors.errors import HandlerLoadError
from rabbitray.actors.worker.handler.loading import find, load, prepare
from rabbitray.actors.worker.handler.signature import asks_of
from tests.kit import asking_handlers

HANDLERS = "tests.kit.asking_handlers"
BOTH = ("payload", "message")


@pytest.mark.parametrize(
    "name",
    [
        *("nothing", "anything", "an_object", "a_job", "a_job_or_none", "a_job_of_anything", "a_job_by_its_package"),
        *("a_protocol", "a_type_variable", "an_annotated_job", "with_a_default", "with_more", "parsed"),
        *("jobs", "unnamed_jobs"),
    ],
)
def test_what_says_nothing_else_gets_the_job_as_ever(name: str) -> None:
    assert load(f"{HANDLERS}:{name}").asks.job_alone


@pytest.mark.parametrize("builtin", [print, len, lambda job: job])
def test_what_has_no_annotations_gets_the_job(builtin: object) -> None:
    assert asks_of(builtin, "it").job_alone


@pytest.mark.parametrize(
    ("name", "given", "typed"),
    [
        ("an_order", ("payload",), True),
        ("a_model", ("payload",), True),
        ("data", ("payload",), True),
        ("mapped", ("payload",), True),
        ("a_map", ("payload",), True),
        ("models", ("payload",), True),
        ("an_order_or_none", ("payload",), True),
        ("a_bound_variable", ("payload",), True),
        ("named", ("payload",), True),
        ("some_bytes", ("payload",), True),
        ("positive", ("payload",), True),
        ("a_job_of_an_order", ("job",), True),
        ("a_job_of_an_order_or_none", ("job",), True),
        ("a_message", ("message",), False),
        ("job_and_message", ("job", "message"), False),
        ("message_and_job", ("message", "job"), False),
        ("message_and_something", ("message", "job"), False),
        ("order_and_message", BOTH, True),
        ("message_and_order", ("message", "payload"), True),
        ("typed_job_and_message", ("job", "message"), True),
        ("message_with_a_default", ("job", "message"), False),
        ("message_and_a_default", ("message",), False),
        ("awaited", BOTH, True),
        ("Called", BOTH, True),
        ("CalledAwaited", BOTH, True),
        ("CalledStatic", BOTH, True),
        ("CalledOfGeneric", BOTH, True),
        ("PARTIAL", BOTH, True),
        ("OBJECT", BOTH, True),
        ("OBJECT.__call__", BOTH, True),
        ("wrapped", BOTH, True),
        ("CalledWrapped", BOTH, True),
        ("jobs_of_orders", ("job",), True),
        ("orders", ("payload",), True),
        ("orders_and_messages", BOTH, True),
        ("MessagesCalled", ("message",), False),
    ],
)
def test_what_is_asked_for_is_found_in_the_order_of_the_parameters(
    name: str, given: tuple[str, ...], typed: bool
) -> None:
    asks = load(f"{HANDLERS}:{name}").asks
    assert (asks.given, asks.convert is not None, asks.message) == (given, typed, "message" in given)
    assert not asks.job_alone


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("undefined", "the annotation Undefined of parameter 'job' cannot be resolved: NameError: name 'Undefined'"),
        ("for_checkers_only", "cannot be resolved: NameError: name 'Database' is not defined; what it names must be"),
        ("our_name_for_checkers_only", "the annotation Task of parameter 'job' cannot be resolved"),
        (
            "no_data",
            "no payload can become what parameter 'order' asks for, tests.kit.asking_handlers.NoData: NoData is",
        ),
        ("lists_of_no_data", "NoData is no type of data; annotate it Job or Message, or as a pydantic model"),
        ("a_job_of_no_data", "parameter 'job' asks for, tests.kit.asking_handlers.NoData"),
        ("two_payloads", "is called with one argument, the payload: missing a required argument: 'more'"),
        ("two_messages", "is called with one argument, the message: missing a required argument: 'other'"),
        ("three", "is called with two arguments, the payload and the message: missing a required argument: 'database'"),
        (
            "no_list",
            "the annotation Order of parameter 'orders' is no list, as a batch handler gets it; write list[...]",
        ),
        ("a_tuple", "of parameter 'orders' is no list"),
    ],
)
def test_what_cannot_be_had_is_one_clear_line(name: str, says: str) -> None:
    with pytest.raises(HandlerLoadError) as caught:
        find(f"{HANDLERS}:{name}")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_class_of_a_function_is_found_where_annotations_are_no_texts() -> None:
    """As without `from __future__ import annotations`."""

    def local(order, message): ...  # type: ignore[no-untyped-def] # annotated below

    local.__annotations__ = {"order": asking_handlers.Order, "message": asking_handlers.Message}
    assert prepare(local, "local").asks.given == BOTH
