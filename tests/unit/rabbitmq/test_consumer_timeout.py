"""How long RabbitMQ leaves a message unsettled, by version and type of queue, and what a consumer asks for."""

from __future__ import annotations

import math

import pytest
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.rabbitmq.consumer_timeout import DEFAULT_S, ConsumerTimeout, Leave
from rabbitray.actors.rabbitmq.errors import ack_timeout_s
from rabbitray.actors.rabbitmq.versions import Behaviour, behaviour

V3_10, V3_12, V4_0, V4_3 = map(behaviour, [(3, 10), (3, 12), (4, 0, 5), (4, 3, 6)])


@pytest.mark.parametrize(
    ("broker", "kind", "leave"),
    [
        (V3_10, "quorum", Leave(most_s=1800)),
        (V3_10, "classic", Leave(most_s=1800)),
        (V4_0, "quorum", Leave(most_s=1800)),
        (V4_3, "quorum", Leave(most_s=1800, asked=True)),
        (V4_3, "classic", Leave(most_s=math.inf)),
        (V4_3, None, Leave(most_s=1800)),  # a classic queue would refuse the argument
    ],
)
def test_what_holds_where_nobody_says_anything(broker: Behaviour, kind: str, leave: Leave) -> None:
    assert ConsumerTimeout(hold_s=300).on(broker, kind) == leave


def test_a_long_handler_asks_for_more_and_nobody_for_less_than_the_default() -> None:
    assert ConsumerTimeout(hold_s=4_000).on(V4_3, "quorum").arguments == {"x-consumer-timeout": 10_000_000}
    assert ConsumerTimeout(hold_s=1).on(V4_3, "quorum").arguments == {"x-consumer-timeout": 1_800_000}
    assert ConsumerTimeout(told_s=7_200, hold_s=1).on(V4_3, "quorum").arguments == {"x-consumer-timeout": 7_200_000}
    assert ConsumerTimeout(told_s=7_200, hold_s=1).on(V4_0, "quorum") == Leave(most_s=7_200)


@given(st.floats(0, 86_400))
def test_what_is_asked_for_is_always_enough(hold_s: float) -> None:
    timeout = ConsumerTimeout(hold_s=hold_s)
    assert timeout.refusal(V4_3, "quorum") is None
    assert timeout.refusal(V4_3, "classic") is None
    assert (timeout.refusal(V4_0, "quorum") is None) is (hold_s < DEFAULT_S / 2)


@pytest.mark.parametrize("broker", [V3_10, V4_0])
def test_a_hold_that_the_broker_does_not_allow_is_refused_with_both_figures(broker: Behaviour) -> None:
    words = ConsumerTimeout(hold_s=1_000).refusal(broker, "quorum")
    assert words is not None
    assert "max_hold_s 1000 " in words
    assert "(1800 s, RabbitMQ's default is assumed)" in words
    assert ConsumerTimeout(told_s=3_600, hold_s=1_000).refusal(V3_10, "quorum") is None
    told = ConsumerTimeout(told_s=1_200, hold_s=1_000).refusal(V4_3, "quorum")
    assert told is not None
    assert "(1200 s, as consumer_timeout_s says)" in told


@given(st.floats(0, 86_400), st.floats(0, 86_400))
def test_what_runs_has_to_fit_beside_what_waits(hold_s: float, run_s: float) -> None:
    timeout = ConsumerTimeout(hold_s=hold_s, run_s=run_s)
    assert timeout.refusal(V4_3, "quorum") is None, "the pool asks for enough"
    assert (timeout.refusal(V4_0, "quorum") is None) is (hold_s < DEFAULT_S / 2 and hold_s + run_s < DEFAULT_S)
    if (words := timeout.refusal(V3_10, "quorum")) is not None and "rabbitmq.conf" in words:
        allowed_s = float(words.rpartition("consumer_timeout_s ")[2].partition(";")[0])
        told = ConsumerTimeout(told_s=allowed_s, hold_s=hold_s, run_s=run_s)
        assert told.refusal(V3_10, "quorum") is None, "what the refusal advises is enough"


def test_an_hour_is_refused_with_the_line_that_allows_it_on_this_version() -> None:
    hour = ConsumerTimeout(hold_s=300, run_s=3_605)
    assert hour.refusal(V3_10, "quorum", "jobs") == (
        "a message that waits max_hold_s 300 s and then runs 3605 s (handler_timeout_s or max_run_s, with the waits "
        "for batch and commit) is not settled within the broker's consumer_timeout (1800 s, RabbitMQ's default is "
        "assumed); `consumer_timeout = 4920000` in rabbitmq.conf allows it; tell it here as consumer_timeout_s 4920; "
        "or lower them"
    )
    policy = """or `rabbitmqctl set_policy long-jobs '^eu\\.jobs$' '{"consumer-timeout": 4920000}' --apply-to queues`"""
    assert policy in str(hour.refusal(V4_0, "quorum", "eu.jobs"))
    assert hour.refusal(V4_3, "quorum", "jobs") is None
    assert hour.on(V4_3, "quorum").arguments == {"x-consumer-timeout": 4_881_250}
    told = ConsumerTimeout(told_s=3_600, hold_s=300, run_s=3_605).refusal(V4_3, "quorum", "jobs")
    assert "raise consumer_timeout_s to 4920, for which the pool then asks" in str(told)


def test_what_check_says() -> None:
    timeout = ConsumerTimeout(hold_s=300)
    assert timeout.words(V3_10, "quorum") == (
        "consumer_timeout cannot be asked over AMQP; 1,800 s, its default, is assumed. RabbitMQ closes the channel "
        "that holds a message longer. consumer_timeout (ms) in rabbitmq.conf sets it, consumer_timeout_s tells it here"
    )
    assert "rabbitmq.conf or a policy consumer-timeout sets it" in timeout.words(V3_12, "quorum")
    assert "3,600 s, as consumer_timeout_s says" in ConsumerTimeout(told_s=3600).words(V4_0, "classic")
    assert timeout.words(V4_3, "quorum") == (
        "consumer_timeout: the pool asks for 1,800 s, whatever queue, policy and rabbitmq.conf say; RabbitMQ cancels "
        "the consumer that holds a message longer"
    )
    assert timeout.words(V4_3, "classic") == "consumer_timeout: this RabbitMQ has none for a classic queue"


def text(value: str) -> str:
    """As 3.10.8, 4.0.5 and 4.3.6 write it; the last one with -1."""
    return (
        f"PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: {value} ms. This "
        "timeout value can be configured, see consumers doc guide to learn more"
    )


def test_the_words_of_a_closed_channel() -> None:
    assert ack_timeout_s(ChannelPreconditionFailed(text("1800000"))) == 1800
    assert ack_timeout_s(ChannelPreconditionFailed(text("-1"))) == 0
    assert ack_timeout_s(ChannelPreconditionFailed("PRECONDITION_FAILED - unknown delivery tag 1")) is None
    assert ack_timeout_s(ChannelNotFoundEntity("NOT_FOUND - no queue 'jobs'")) is None
    assert ack_timeout_s(ConnectionError("lost")) is None
    assert ack_timeout_s(None) is None
