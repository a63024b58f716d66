"""How many workers: the rules as properties, then each brake, bound and word by example."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rabbitray.actors.errors import ConfigurationError
from rabbitray.autoscale.policy.signals import FOR_TASKS, Decision, Memory, PolicyLimits, Snapshot
from rabbitray.autoscale.policy.sizing import decide
from tests.kit.pool_status import seen, steadily

LIMITS = PolicyLimits()

counts = st.integers(0, 100_000)


@st.composite
def limits(draw: st.DrawFn) -> PolicyLimits:
    low, first, high = sorted(draw(st.lists(st.integers(0, 60), min_size=3, max_size=3)))
    return PolicyLimits(
        min_size=low,
        initial_size=first,
        max_size=max(1, high),
        downscale_delay_s=draw(st.floats(0, 120)),
        downscale_to_zero_delay_s=draw(st.none() | st.floats(0, 120)),
        target_utilization=draw(st.floats(0.1, 1.0)),
        drain_target_s=draw(st.floats(1, 300)),
        fixed_size=draw(st.none() | st.integers(0, 100)),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Snapshot]:
    """Looks at a pool in which anything may happen, counters growing, depth sometimes unknown."""
    now, done, received, busy_s, failed = 0.0, 0, 0, 0.0, 0
    looks = []
    for _ in range(draw(st.integers(1, 12))):
        now += draw(st.floats(0.1, 20))
        finished = draw(st.integers(0, 5_000))
        done, failed = done + finished, failed + draw(st.integers(0, finished))
        received += draw(st.integers(0, 5_000))
        busy_s += draw(st.floats(0, 100))
        workers = draw(st.integers(0, 60))
        looks.append(
            seen(
                now=now,
                ready=draw(st.none() | counts),
                workers=workers,
                starting=draw(st.integers(0, 10)),
                target=draw(st.integers(0, 80)),
                busy=draw(st.integers(0, workers)),
                held=draw(st.integers(0, 4_000)),
                in_flight=draw(st.integers(0, 4_000)),
                done=done,
                failed=failed,
                received=received,
                busy_s=busy_s,
                oldest_held_s=draw(st.none() | st.floats(0, 1_000)),
                start_s=draw(st.none() | st.floats(0, 60)),
                pending_s=draw(st.none() | st.floats(0, 600)),
                placeable=draw(st.none() | st.integers(0, 50)),
                can_grow_nodes=draw(st.booleans()),
                paused=draw(st.booleans()),
                hold=draw(st.none() | st.just("broker alarm")),
                slots=draw(st.sampled_from([1, 32])),
            )
        )
    return looks


def played(looks: list[Snapshot], limits: PolicyLimits) -> list[Decision]:
    """The decisions over a history, the pool following each at once."""
    memory, decisions = Memory(), []
    for look in looks:
        decision, memory = decide(look, memory, limits)
        decisions.append(decision)
    return decisions


def remembered(looks: list[Snapshot], limits: PolicyLimits) -> Memory:
    memory = Memory()
    for look in looks:
        _, memory = decide(look, memory, limits)
    return memory


@given(histories(), limits())
def test_bounds_always_hold_whatever_was_seen(looks: list[Snapshot], limits: PolicyLimits) -> None:
    """One history shows four things: to draw one takes longer than to decide on it."""
    for decision in played(looks, limits):
        assert limits.min_size <= decision.wanted <= limits.max_size
        assert decision.reason
    the_same_input_gives_the_same_output(looks, limits)
    a_missing_signal_changes_nothing(looks, replace(limits, fixed_size=None))
    one_look_never_grows_by_more_than_a_step(looks)


def the_same_input_gives_the_same_output(looks: list[Snapshot], limits: PolicyLimits) -> None:
    memory = remembered(looks[:-1], limits)
    assert decide(looks[-1], memory, limits) == decide(looks[-1], memory, limits)


def a_missing_signal_changes_nothing(looks: list[Snapshot], limits: PolicyLimits) -> None:
    memory = remembered(looks[:-1], limits)
    decision, after = decide(replace(looks[-1], ready=None), memory, limits)
    assert after == memory
    assert decision.wanted == min(max(looks[-1].pool.target, limits.min_size), limits.max_size)


def one_look_never_grows_by_more_than_a_step(looks: list[Snapshot]) -> None:
    for look, decision in zip(looks, played(looks, PolicyLimits(min_size=0, initial_size=0)), strict=True):
        assert decision.wanted <= look.pool.target + max(8, look.pool.target)


@given(histories(), st.integers(0, 100_000))
def test_more_depth_never_wants_fewer_workers(looks: list[Snapshot], more: int) -> None:
    last = replace(looks[-1], ready=looks[-1].ready or 0)
    last = replace(last, pool=replace(last.pool, hold=None, paused=False))
    memory = replace(remembered(looks[:-1], LIMITS), plateau=None, growth=None)
    deeper = replace(last, ready=(last.ready or 0) + more)
    assert decide(deeper, memory, LIMITS)[0].wanted >= decide(last, memory, LIMITS)[0].wanted


@given(st.integers(2, 32), st.floats(1, 120), st.integers(0, 400))
def test_no_shrink_before_demand_was_low_for_the_delay(size: int, delay_s: float, seconds: int) -> None:
    limits = PolicyLimits(downscale_delay_s=delay_s)
    low = steadily(speed=10, arrival=0, workers=size, seconds=min(seconds, int(delay_s)))
    assert all(d.wanted == size for d in played(low, limits))


@given(histories(), st.integers(1, 32), st.floats(0, 60))
def test_a_shrink_needs_low_demand_all_through_the_delay(looks: list[Snapshot], size: int, delay_s: float) -> None:
    free: dict[str, object] = {"target": size, "hold": None, "paused": False, "placeable": None, "pending_s": None}
    looks = [replace(look, pool=replace(look.pool, **free)) for look in looks]  # type: ignore[arg-type]  # fields
    before: list[tuple[float, float]] = []
    for look, decision in zip(looks, played(looks, PolicyLimits(downscale_delay_s=delay_s)), strict=True):
        if decision.kind == "shrink" and size <= 32:
            assert all(need <= size for at, need in before if at > look.now - delay_s)
            assert look.now - looks[0].now >= delay_s
        if decision.inputs.need is not None:
            before.append((look.now, decision.inputs.need))


@given(st.integers(2, 32), st.integers(31, 60))
def test_a_shrink_takes_at_most_the_downscaling_factor(size: int, seconds: int) -> None:
    wanted = [d.wanted for d in played(steadily(speed=10, arrival=0, workers=size, seconds=seconds), LIMITS)]
    assert min(wanted) < size
    assert min(wanted) >= size - max(1, size // 2)


@settings(max_examples=30 * int(os.environ.get("ROUNDS", "1")))
@given(st.integers(0, 2**32), st.floats(10, 400))
def test_no_flapping_under_constant_load_with_noise(seed: int, arrival: float) -> None:
    sizes = _noisy(seed, arrival, seconds=400)[60:]
    downs = sum(b < a for a, b in pairwise(sizes))
    assert downs <= 1
    assert max(sizes) - min(sizes) <= 1 + 0.25 * max(sizes)


def _noisy(seed: int, arrival: float, seconds: int) -> list[int]:
    """The targets of a pool that follows the policy under Poisson-like arrivals of one mean."""
    random, speed, memory = Random(seed), 20.0, Memory()
    target, received, done, busy_s, ready, sizes = 1, 0, 0.0, 0.0, 0, []
    for t in range(seconds):
        came = max(0, round(random.gauss(arrival, arrival**0.5)))
        finished = min(target * speed, ready + came)
        ready, received = int(ready + came - finished), received + int(finished)
        done, busy_s = done + int(finished), busy_s + finished / speed
        busy = min(target, max(1, round(finished / speed)))
        look = seen(now=float(t), ready=ready, workers=target, target=target, busy=busy, in_flight=busy)
        look = replace(look, pool=replace(look.pool, held=busy, received=received, done=int(done), busy_s=busy_s))
        decision, memory = decide(look, memory, LIMITS)
        target = decision.wanted
        sizes.append(target)
    return sizes


def test_workers_for_arrivals_and_backlog_at_measured_speed() -> None:
    looks = steadily(speed=55, arrival=480, workers=9, seconds=30, placeable=3)
    decision = played(looks, LIMITS)[-1]
    assert decision.wanted == 11
    assert decision.kind == "grow"
    assert decision.inputs.arrival == pytest.approx(480, rel=0.02)
    assert decision.inputs.speed == pytest.approx(55, rel=0.02)


def test_the_reason_is_in_words_and_names_the_bound() -> None:
    look = seen(now=30.0, ready=9_000, workers=8, target=8, busy=8, in_flight=8, held=8, received=14_400)
    look = replace(look, pool=replace(look.pool, done=14_400, busy_s=14_400 / 55, placeable=0))
    looks = steadily(speed=55, arrival=480, workers=8, seconds=30)
    decision = played([*looks, look], LIMITS)[-1]
    assert decision.wanted == 8
    assert decision.reason.startswith("want ")
    assert "msg/s arriving, 9,000 waiting, 55 msg/s per worker" in decision.reason
    assert decision.reason.endswith("cluster fits 8")


@pytest.mark.parametrize(
    ("grows", "says"),
    [
        ({}, "cluster fits 8 (short of gpu)"),
        (
            {"can_grow_nodes": True, "growable": 2},
            "cluster fits 8 (short of gpu), and its node types may bring room for 2 more",
        ),
    ],
)
def test_the_reason_names_the_resource_that_is_short(grows: dict[str, object], says: str) -> None:
    look = seen(now=0.0, ready=90_000, workers=8, target=8, busy=8, in_flight=8, held=8)
    look = replace(look, pool=replace(look.pool, placeable=0, short="gpu", **grows))
    decision, _ = decide(look, Memory(), PolicyLimits())
    assert says in decision.reason


def test_a_node_that_joins_later_is_used() -> None:
    """Submitted when only the head was there: the bound of the pool is not what the cluster had then."""
    alone, memory = decide(seen(now=0.0, ready=20_000, placeable=0), Memory(), LIMITS)
    assert (alone.wanted, alone.reason.endswith("cluster fits 1")) == (1, True)
    joined, _ = decide(seen(now=1.0, ready=20_000, placeable=8), memory, LIMITS)
    assert joined.wanted == 9


def test_where_nodes_may_come_no_more_is_asked_for_than_their_types_bring() -> None:
    growing: dict[str, Any] = {"ready": 20_000, "placeable": 0, "can_grow_nodes": True}
    few, _ = decide(seen(**growing, growable=2), Memory(), LIMITS)
    assert (few.wanted, few.reason.endswith("its node types may bring room for 2 more")) == (3, True)
    for growable in (None, 100):  # not known, and many: as many as are asked of new nodes at once
        assert decide(seen(**growing, growable=growable), Memory(), LIMITS)[0].wanted == 5


def test_a_place_that_is_lent_is_not_given_up_for_good() -> None:
    lent, memory = decide(seen(now=0.0, ready=20_000, workers=7, target=8, lent=1, placeable=0), Memory(), LIMITS)
    assert lent.wanted == 8
    stuck = seen(now=400.0, ready=20_000, workers=5, starting=2, target=8, lent=1, pending_s=400.0, placeable=0)
    assert decide(stuck, memory, LIMITS)[0].wanted == 6, "what stayed pending is taken back, what is lent is not"


def test_without_a_depth_the_pool_stays_as_it_is_and_the_reason_says_so() -> None:
    """Because this user may not look, or RabbitMQ is silent: neither growth nor shrinking by a number of before."""
    decision, memory = decide(seen(ready=None, workers=3, target=3, held=400), Memory(), LIMITS)
    assert (decision.wanted, decision.kind, decision.reason) == (
        3,
        "missing",
        "keep 3: the depth of the queue is unknown",
    )
    assert memory == Memory()


def test_depth_alone_counts_while_no_speed_is_known() -> None:
    decision, _ = decide(seen(ready=2_500), Memory(), LIMITS)
    assert decision.wanted == 5
    assert "speed unknown" in decision.reason


@pytest.mark.parametrize(("start_s", "wanted"), [(0.0, 12), (10.0, 14), (20.0, 15)])
def test_workers_that_start_slowly_find_a_longer_queue_and_less_time(start_s: float, wanted: int) -> None:
    looks = steadily(speed=55, arrival=480, workers=9, seconds=30, ready=5_000, start_s=start_s)
    assert played(looks, LIMITS)[-1].wanted == wanted


def test_growth_waits_for_its_delay() -> None:
    looks = [seen(now=float(t), ready=2_500) for t in range(12)]
    decisions = played(looks, PolicyLimits(upscale_delay_s=10))
    assert [d.wanted for d in decisions] == [1] * 10 + [5] * 2
    assert "waiting for upscale_delay_s" in decisions[9].reason


@pytest.mark.parametrize(("factor", "step", "wanted"), [(2.0, 1, 12), (0.5, 1, 6), (0.5, 3, 7)])
def test_a_step_up_is_a_share_of_the_pool_or_a_number(factor: float, step: int, wanted: int) -> None:
    look = seen(ready=50_000, workers=4, target=4)
    assert decide(look, Memory(), PolicyLimits(upscaling_factor=factor, upscale_step=step))[0].wanted == wanted


@pytest.mark.parametrize(("oldest_held_s", "least"), [(29.0, 2), (31.0, 4)])
def test_nothing_shrinks_while_a_message_is_held_longer_than_the_time_to_drain(
    oldest_held_s: float, least: int
) -> None:
    looks = steadily(speed=10, arrival=0, workers=4, seconds=60, ready=2, oldest_held_s=oldest_held_s)
    assert min(d.wanted for d in played(looks, LIMITS)) == least


def test_between_two_steps_down_are_five_seconds() -> None:
    memory, target, sizes = Memory(), 16, []
    for look in steadily(speed=10, arrival=0, workers=16, seconds=46):
        followed = replace(look, pool=replace(look.pool, workers=target, target=target))
        decision, memory = decide(followed, memory, LIMITS)
        target = decision.wanted
        sizes.append(target)
    assert sizes == [16] * 30 + [8] * 5 + [4] * 5 + [2] * 5 + [1]


def test_slow_first_jobs_are_noticed_before_one_has_finished() -> None:
    look = seen(ready=6, held=1, busy=1, in_flight=1, oldest_held_s=30.0)
    assert decide(look, Memory(), LIMITS)[0].wanted == 7


def test_a_message_needs_at_most_one_worker() -> None:
    looks = [seen(now=0.0, ready=3), seen(now=100.0, ready=3)]
    memory = Memory(speed=0.001)
    for look in looks:
        decision, memory = decide(look, memory, LIMITS)
        assert decision.wanted <= 3


def test_starting_workers_count_as_capacity() -> None:
    look = seen(ready=2_500, target=5, workers=1, starting=4, pending_s=0.5)
    decision, _ = decide(look, Memory(), LIMITS)
    assert decision.wanted == 5
    assert decision.kind == "steady"


def test_from_zero_at_the_first_message() -> None:
    limits = PolicyLimits(min_size=0, initial_size=0, upscale_delay_s=60, downscale_to_zero_delay_s=10)
    nothing = seen(now=0.0, workers=0, target=0)
    decision, memory = decide(nothing, Memory(), limits)
    assert decision.wanted == 0
    decision, _ = decide(seen(now=1.0, ready=0, held=1, workers=0, target=0), memory, limits)
    assert decision.wanted == 1


def test_to_zero_only_after_its_own_delay_and_only_where_allowed() -> None:
    looks = steadily(speed=10, arrival=0, workers=1, seconds=100)
    assert {d.wanted for d in played(looks, PolicyLimits(min_size=0))} == {1}
    to_zero = PolicyLimits(min_size=0, downscale_to_zero_delay_s=50)
    wanted = [d.wanted for d in played(looks, to_zero)]
    assert wanted[:50] == [1] * 50
    assert wanted[-1] == 0


@pytest.mark.parametrize(("change", "kind"), [({"paused": True}, "paused"), ({"hold": "writer is down"}, "hold")])
def test_paused_or_on_hold_nothing_grows_or_shrinks(change: dict[str, object], kind: str) -> None:
    full = steadily(speed=10, arrival=500, workers=4, seconds=40, ready=50_000, **change)
    empty = steadily(speed=10, arrival=0, workers=4, seconds=90, **change)
    for looks in (full, empty):
        decisions = played(looks, LIMITS)
        assert {d.wanted for d in decisions} == {4}
        assert {d.kind for d in decisions} == {kind}


def test_after_a_pause_the_delay_of_shrinking_starts_again() -> None:
    paused = steadily(speed=10, arrival=0, workers=4, seconds=90, paused=True)
    after = [replace(s, now=s.now + 90) for s in steadily(speed=10, arrival=0, workers=4, seconds=29)]
    assert {d.wanted for d in played([*paused, *after], LIMITS)} == {4}


def test_a_fixed_size_is_kept_within_the_bounds_even_without_a_signal() -> None:
    for asked, wanted in ((5, 5), (100, 32), (0, 1)):
        decision, _ = decide(seen(ready=None), Memory(), PolicyLimits(fixed_size=asked))
        assert decision.wanted == wanted
        assert decision.kind == "fixed"


def test_a_fixed_size_asks_for_no_more_than_the_cluster_fits_and_for_the_rest_when_room_appears() -> None:
    limits, memory = PolicyLimits(fixed_size=8), Memory()
    for now, placeable, wanted in ((0.0, 0, 1), (1.0, 0, 1), (2.0, 3, 4), (3.0, 20, 8), (4.0, None, 8)):
        decision, memory = decide(seen(now=now, placeable=placeable), memory, limits)
        assert (decision.wanted, decision.kind) == (wanted, "fixed")
        reason = "want 8: fixed at 8 by control"
        assert decision.reason == (reason if wanted == 8 else f"{reason}; cluster fits {wanted}")


def test_a_fixed_size_of_which_workers_stay_pending_is_taken_back_and_asked_for_again_later() -> None:
    limits = PolicyLimits(fixed_size=8)
    stuck = seen(now=400.0, starting=7, target=8, pending_s=400.0, placeable=0)
    decision, memory = decide(stuck, Memory(), limits)
    assert (decision.wanted, decision.kind) == (1, "withdraw")
    assert decision.reason == "want 8: fixed at 8 by control; 7 workers stayed pending for 400 s"
    for later in (seen(now=401.0, placeable=0), seen(now=401.0, placeable=None), seen(now=459.0, placeable=None)):
        assert decide(later, memory, limits)[0].wanted == 1
    assert decide(seen(now=402.0, placeable=2), memory, limits)[0].wanted == 3
    assert decide(seen(now=460.0, placeable=None), memory, limits)[0].wanted == 8


def test_a_fixed_size_that_waits_is_not_taken_back_before_its_time_nor_below_min_size() -> None:
    waits = seen(now=100.0, starting=7, target=8, pending_s=100.0, placeable=0)
    assert decide(waits, Memory(), PolicyLimits(fixed_size=8))[0].wanted == 8
    limits = PolicyLimits(fixed_size=8, min_size=3, initial_size=3)
    stuck = seen(now=400.0, starting=7, target=8, pending_s=400.0, placeable=0)
    assert decide(stuck, Memory(), limits)[0].wanted == 3
    assert decide(seen(placeable=0), Memory(), limits)[0].wanted == 3


def test_rising_errors_stop_growth_until_they_stand_still() -> None:
    healthy = steadily(speed=10, arrival=40, workers=4, seconds=30)
    failing = [
        replace(look, pool=replace(look.pool, failed=int((look.now - 29) * 30)), ready=5_000)
        for look in steadily(speed=10, arrival=40, workers=4, seconds=90)[30:]
    ]
    decisions = played([*healthy, *failing], LIMITS)[30:]
    assert decisions[5].wanted == 4
    assert "no growth while errors rise" in decisions[5].reason
    assert decisions[-1].wanted > 4


def test_growth_that_brought_no_throughput_is_not_repeated_until_something_changes() -> None:
    targets, reasons = _shared_bottleneck(seconds=240)
    assert max(targets) <= 80  # of 500 that are allowed and that the falling speed seems to ask for
    assert targets[100:] == [13] * 140
    assert "throughput only went 1.0-fold" in reasons[-1]


def _shared_bottleneck(seconds: int) -> tuple[list[int], list[str]]:
    """A pool whose workers share something that gives 100 jobs a second, however many they are."""
    target, memory, done, busy_s, ready = 2, Memory(), 0, 0.0, 100_000
    targets, reasons = [], []
    for t in range(seconds):
        done, busy_s, ready = done + 100, busy_s + target, ready - 100
        look = seen(now=float(t), ready=ready, workers=target, target=target, busy=target, in_flight=target)
        look = replace(look, pool=replace(look.pool, held=target, received=done, done=done, busy_s=busy_s))
        decision, memory = decide(look, memory, PolicyLimits(max_size=500))
        target = decision.wanted
        targets.append(target)
        reasons.append(decision.reason)
    return targets, reasons


def test_the_cluster_bounds_the_ask_and_new_nodes_are_asked_for_a_few_at_a_time() -> None:
    full = {"ready": 50_000, "workers": 1, "target": 1}
    assert decide(seen(**full, placeable=0), Memory(), LIMITS)[0].wanted == 1  # type: ignore[arg-type]  # fields
    assert decide(seen(**full, placeable=2), Memory(), LIMITS)[0].wanted == 3  # type: ignore[arg-type]  # fields
    growing = seen(**full, placeable=0, can_grow_nodes=True)  # type: ignore[arg-type]  # fields
    assert decide(growing, Memory(), LIMITS)[0].wanted == 5
    reserved = seen(**full, placeable=0, can_grow_nodes=True, short=FOR_TASKS)  # type: ignore[arg-type]  # fields
    assert decide(reserved, Memory(), LIMITS)[0].wanted == 1, "they would take what is left for tasks"
    node_gone = seen(ready=50_000, workers=4, target=4, placeable=-2, short=FOR_TASKS)
    assert decide(node_gone, Memory(), LIMITS)[0].wanted == 2


def test_pending_workers_stay_few_while_no_node_comes_and_follow_the_nodes() -> None:
    memory, target, targets = Memory(), 1, []
    for t in range(100):
        look = seen(
            now=float(t), ready=50_000, workers=1, starting=target - 1, target=target,
            pending_s=float(t) or None, placeable=0, can_grow_nodes=True,
        )  # fmt: skip
        decision, memory = decide(look, memory, LIMITS)
        target = decision.wanted
        targets.append(target)
    assert targets == [5] * 100, "one ready, four asked for, however long it takes"
    assert "asked of new nodes" in decision.reason
    arrived = seen(now=101.0, ready=50_000, workers=5, target=5, placeable=3, can_grow_nodes=True)
    assert decide(arrived, memory, LIMITS)[0].wanted == 12


def test_workers_that_wait_for_a_node_are_not_cut_by_the_bound_of_new_ones() -> None:
    placed = seen(ready=50_000, workers=1, starting=10, target=11, pending_s=1.0, placeable=0, can_grow_nodes=True)
    assert decide(placed, Memory(), LIMITS)[0].wanted == 11


@pytest.mark.parametrize(("pending_s", "kind"), [(269.0, "steady"), (271.0, "withdraw")])
def test_slow_starts_get_more_patience_but_end_before_they_count_as_failed(pending_s: float, kind: str) -> None:
    slow = seen(
        now=900.0, ready=50_000, workers=1, starting=7, target=8, start_s=200.0, pending_s=pending_s, placeable=0
    )
    assert decide(slow, Memory(), LIMITS)[0].kind == kind


def test_a_request_that_stays_pending_is_withdrawn_and_not_repeated_at_once() -> None:
    stuck = seen(now=130.0, ready=50_000, workers=1, starting=7, target=8, pending_s=125.0)
    decision, memory = decide(stuck, Memory(), LIMITS)
    assert (decision.wanted, decision.kind) == (1, "withdraw")
    later = seen(now=140.0, ready=50_000, workers=1, target=1)
    decision, memory = decide(later, memory, LIMITS)
    assert decision.wanted == 1
    assert "stayed pending" in decision.reason
    room = seen(now=141.0, ready=50_000, workers=1, target=1, placeable=3)
    assert decide(room, memory, LIMITS)[0].wanted == 4


def test_messages_that_come_back_are_no_arrivals() -> None:
    looks = [
        replace(look, ready=(i % 2) * 50, pool=replace(look.pool, returned=i * 25))
        for i, look in enumerate(steadily(speed=10, arrival=20, workers=3, seconds=30))
    ]
    assert played(looks, LIMITS)[-1].inputs.arrival == pytest.approx(20, rel=0.25)


def test_a_starved_worker_does_not_look_slow() -> None:
    assert played(steadily(speed=50, arrival=5, workers=4, seconds=30), LIMITS)[-1].inputs.speed == pytest.approx(50)


def test_free_async_slots_count_until_the_truth_is_known() -> None:
    looks = steadily(speed=20, arrival=80, workers=4, seconds=30, slots=32)
    assert played(looks, LIMITS)[-1].inputs.speed == pytest.approx(80, rel=0.05)
    assert played([*looks[:-1], looks[-1]], LIMITS)[-1].wanted == 4


def test_a_single_burst_is_a_backlog_and_not_a_rate() -> None:
    quiet = steadily(speed=20, arrival=20, workers=2, seconds=25)
    burst = [replace(look, ready=3_000) for look in steadily(speed=20, arrival=20, workers=2, seconds=30)[25:]]
    assert played([*quiet, *burst], LIMITS)[-1].inputs.arrival == pytest.approx(20, abs=5)


def test_a_new_router_starts_with_fresh_counters() -> None:
    looks = steadily(speed=10, arrival=100, workers=4, seconds=30)
    fresh = seen(now=30.0, workers=4, target=4, epoch=2)
    decision = played([*looks, fresh], LIMITS)[-1]
    assert decision.inputs.arrival == 0
    assert decision.wanted == 4


def test_memory_stays_bounded() -> None:
    memory = remembered(steadily(speed=10, arrival=100, workers=12, seconds=2_000), LIMITS)
    assert len(memory.samples) <= 70
    assert len(memory.peaks) <= 33


@pytest.mark.parametrize(
    "wrong",
    [{"min_size": 5, "initial_size": 2}, {"max_size": 0, "min_size": 0, "initial_size": 0}, {"drain_target_s": 0}],
)
def test_limits_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        PolicyLimits(**wrong)  # type: ignore[arg-type]  # the names are fields
