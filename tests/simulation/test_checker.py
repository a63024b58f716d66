"""The checker can fail: each part that is broken on purpose breaks the rule that is meant for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rabbitray.actors.publisher import EncodedMessage
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.store.answers import Answer
from tests.simulation.router_process import RouterProcess
from tests.simulation.script import Script, Step
from tests.simulation.world import Tamper, run


def _steps(*steps: Step) -> Script:
    return Script(steps=steps)


PLAIN = _steps(Step(0.5, "publish", (3, "ok")), Step(0.6, "publish", (2, "raise", 9.0)))
CUT = _steps(Step(0.5, "publish", (3, "slow", 0.5)), Step(0.9, "cut"), Step(1.0, "publish", (1, "ok")))
LATER = _steps(Step(0.5, "publish", (3, "ok", 0.0, "", 2.5)))


def acks_before_the_commit(router: RouterProcess) -> None:
    async def write(payload: Any, failed_keys: tuple[str, ...], span: str | None, failures: Any) -> Answer:
        return Answer(committed=len(payload))

    router.store.write = write  # type: ignore[method-assign]


def loses_a_copy(router: RouterProcess) -> None:
    async def publish_message(message: EncodedMessage) -> None:
        """Says that it is there."""

    router.sender.publish_message = publish_message  # type: ignore[method-assign]


def sends_a_copy_twice(router: RouterProcess) -> None:
    once = router.sender.publish_message

    async def publish_message(message: EncodedMessage) -> None:
        await once(message)
        await once(message)

    router.sender.publish_message = publish_message  # type: ignore[method-assign]


def has_no_dedupe(router: RouterProcess) -> None:
    real = router.store.write

    async def write(payload: Any, failed_keys: tuple[str, ...], span: str | None, failures: Any) -> Answer:
        router.world.store.keys.clear()
        return await real(payload, failed_keys, span)

    router.store.write = write  # type: ignore[method-assign]


def holds_for_ever(router: RouterProcess) -> None:
    async def consume(window: int) -> None:
        """Says that it does."""

    router.intake.consume = consume  # type: ignore[method-assign]


def charges_too_much(router: RouterProcess) -> None:
    real = router.settler._outbox.retry

    async def retry(delivery: Delivery, record: Any, rung: Any) -> None:
        await real(delivery, record, replace(rung, attempt=rung.attempt + 1))

    router.settler._outbox.retry = retry  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("tamper", "script", "rule"),
    [
        (acks_before_the_commit, PLAIN, "early"),
        (loses_a_copy, PLAIN, "early"),
        (loses_a_copy, LATER, "early"),
        (sends_a_copy_twice, PLAIN, "duplicated"),
        (has_no_dedupe, CUT, "duplicated"),
        (holds_for_ever, PLAIN, "held"),
        (charges_too_much, PLAIN, "charged"),
    ],
)
def test_a_broken_part_is_found(tamper: Tamper, script: Script, rule: str) -> None:
    found = run(script, tamper)
    assert found is not None
    assert found[0] == rule


@pytest.mark.parametrize("script", [PLAIN, CUT, LATER])
def test_the_same_history_is_well_without_it(script: Script) -> None:
    assert run(script) is None
