"""Router and settler against every order of deliveries, outcomes, deaths, reconnects, drains and store failures.

At every step: a message that the broker saw acked has its row committed or a copy confirmed, no ack was refused,
and every key is somewhere. At rest: every key has one row or one dead letter, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rabbitray.actors.errors import PayloadLostError, PublishTimeoutError, RefusedError, StoreUnavailableError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.reply import Part
from tests.kit.fake_broker import Stored
from tests.kit.fake_workers import FakeWorker
from tests.kit.plain_path import PlainPath, fails
from tests.kit.result_rows import rows_of
from tests.kit.virtual_time import VirtualLoop

TICKS = 40
VERDICTS = st.sampled_from(["done", "retry", "dead"])
STORE_FAILURES = [StoreUnavailableError("full"), PayloadLostError("its node died"), ValueError("bug")]
PUBLISH_FAILURES = [RefusedError("full"), PublishTimeoutError("no confirm"), OSError("reset")]

log = logging.getLogger("rabbitray.actors")


def paused(machine: RouterMachine) -> bool:
    """Whether somebody paused it."""
    return "paused" in machine.path.router.holds


def slow(machine: RouterMachine) -> bool:
    """Whether some commit waits."""
    return machine.path.store.waiting > 0


def holding(machine: RouterMachine) -> bool:
    """Whether the router holds messages."""
    return machine.path.broker.unacked > 0


class FailedSteps(logging.Handler):
    """What the router says when one of its steps ended with an exception: no one has its messages then."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "step of the router failed" in record.msg:
            self.seen.append(str(record.exc_info))


class RouterMachine(RuleBasedStateMachine):
    """The plain path on a loop whose time jumps."""

    @initialize(slots=st.sampled_from([1, 4]), workers=st.integers(1, 3), window=st.integers(1, 12))
    def begin(self, slots: int, workers: int, window: int) -> None:
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(self._failed)
        self.errors: list[dict[str, Any]] = []
        self.unsafe: list[str] = []
        self.failed_steps = FailedSteps()
        log.addHandler(self.failed_steps)
        self.slots, self.workers, self.window = slots, workers, window
        self.published: list[str] = []
        self.path = self._run(self._make())
        self._tick()

    async def _make(self, before: PlainPath | None = None) -> PlainPath:
        path = PlainPath(slots=self.slots, before=before)
        path.broker.on_ack = self._on_ack
        await path.start(workers=self.workers, window=self.window, batch_size=3)
        return path

    def _run(self, step: Any) -> Any:
        return self.loop.run_until_complete(step)

    def _do(self, step: Callable[[], object]) -> None:
        """Something happens on the loop, and what follows from it at once."""

        async def on_loop() -> None:
            step()

        self._run(on_loop())
        self._tick()

    def _tick(self, seconds: float = 0.0) -> None:
        async def ticks() -> None:
            for _ in range(TICKS):
                await asyncio.sleep(0)
            if seconds:
                await asyncio.sleep(seconds)
                for _ in range(TICKS):
                    await asyncio.sleep(0)

        self._run(ticks())

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def _on_ack(self, message: Stored) -> None:
        committed = {row["key"] for row in self.path.store.results}
        copied = self.path.broker.copies[message.key] > message.copies_before
        if message.key not in committed and not copied:
            self.unsafe.append(message.key)  # raised later: the router would catch it here

    # the world

    @rule(count=st.integers(1, 8), due=st.booleans())
    def publish(self, count: int, due: bool) -> None:
        self.publish_some(count, due=due)

    def publish_some(self, count: int, *, due: bool = False) -> None:
        keys = [f"k{len(self.published) + n}" for n in range(count)]
        self.published += keys
        headers = {h.DUE: 32_000_000_000_000} if due and count == 1 else {}
        self._do(lambda: self.path.publish(*keys, **headers))

    @rule()
    def rungs_expire(self) -> None:
        self._do(self.path.broker.expire)

    @rule(seconds=st.sampled_from([0.05, 0.3, 2.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self._tick(seconds)

    @precondition(holding)
    @rule()
    def the_connection_breaks(self) -> None:
        if self.path.intake.connected:
            self._do(self.path.intake.lose)

    # workers

    def _pick(self, number: int) -> tuple[FakeWorker, str] | None:
        """A batch in hand; what disturbs an idle path finds nothing, so there is work first."""
        if not self.path.running:
            self.publish_some(4)
        running = self.path.running
        return running[number % len(running)] if running else None

    @rule(number=st.integers(0, 9), verdicts=st.lists(VERDICTS, min_size=3, max_size=3))
    def a_batch_ends(self, number: int, verdicts: list[str]) -> None:
        if (found := self._pick(number)) is not None:
            worker, batch = found
            left = self._left(worker, batch)
            self._answer(worker, batch, dict(zip(left, verdicts, strict=False)), still_open=0)
            self._tick()

    @rule(number=st.integers(0, 9), verdict=VERDICTS, gives_back=st.booleans())
    def a_slow_batch_tells_what_it_has(self, number: int, verdict: str, gives_back: bool) -> None:
        found = self._pick(number)
        if found is not None and len(left := self._left(*found)) > 1:
            worker, batch = found
            returned = left[2:] if gives_back else []
            still_open = len(left) - 1 - len(returned)
            self._answer(worker, batch, {left[0]: verdict}, still_open=still_open, returned=returned)
            self._tick()

    @rule(number=st.integers(0, 9), crash=st.booleans())
    def a_worker_dies(self, number: int, crash: bool) -> None:
        if (found := self._pick(number)) is not None:
            worker, _ = found
            self._do(lambda: worker.die("worker_crashed" if crash else "node_lost", may_be_poison=crash))

    @rule(workers=st.integers(0, 4))
    def the_pool_is_resized(self, workers: int) -> None:
        self._do(lambda: self.path.pool.resize(workers))

    def _all_end(self, number: int, verdict: str) -> None:
        """One batch ends, with the same verdict on each of its messages."""
        if (found := self._pick(number)) is not None:
            self._answer(*found, dict.fromkeys(self._left(*found), verdict), still_open=0)
            self._tick()

    def _left(self, worker: FakeWorker, batch: str) -> list[int]:
        told = worker.told.setdefault(batch, set())
        return [n for n in range(len(worker.batches[batch])) if n not in told]

    def _answer(
        self,
        worker: FakeWorker,
        batch: str,
        verdicts: dict[int, str],
        *,
        still_open: int,
        returned: list[int] | None = None,
    ) -> None:
        keys = self.path.keys(batch)
        parcels = worker.batches[batch]
        done = [n for n, verdict in verdicts.items() if verdict == "done"]
        failures = [
            fails(n, keys[n], verdict=verdict, attempt=max(parcels[n].attempt, 0))
            for n, verdict in verdicts.items()
            if verdict != "done"
        ]
        worker.told.setdefault(batch, set()).update(verdicts, returned or [])
        part = Part(
            rows=len(done),
            row_positions=done,
            failures=failures,
            finished=list(verdicts),
            returned=returned or [],
            open=still_open,
            jobs=len(verdicts),
        )
        worker.answer(batch, part, rows_of([keys[n] for n in done]))

    # store and publisher

    @rule(
        failures=st.lists(st.sampled_from(STORE_FAILURES), min_size=1, max_size=3),
        number=st.integers(0, 9),
        verdict=VERDICTS,
    )
    def the_store_fails(self, failures: list[Exception], number: int, verdict: str) -> None:
        for failure in failures:
            self.path.store.fail_next(failure)
        self._all_end(number, verdict)

    @rule()
    def the_store_is_slow(self) -> None:
        self.path.store.hold()

    @precondition(slow)
    @rule()
    def the_store_is_fast_again(self) -> None:
        self.path.store.release()
        self._tick()

    @rule(
        failure=st.sampled_from(PUBLISH_FAILURES),
        arrives=st.booleans(),
        number=st.integers(0, 9),
        verdict=st.sampled_from(["retry", "dead"]),
    )
    def a_publish_fails(self, failure: Exception, arrives: bool, number: int, verdict: str) -> None:
        self.path.sender.ambiguous = arrives
        self.path.sender.failures.append(failure)
        self._all_end(number, verdict)

    # control

    @rule(window=st.integers(1, 12), batch_size=st.integers(1, 3))
    def the_window_changes(self, window: int, batch_size: int) -> None:
        self.window = window
        self._run(self.path.router.set_window(window, batch_size))
        self._tick()

    @rule()
    def it_is_paused(self) -> None:
        self._run(self.path.router.hold("paused", "by hand"))
        self._tick()

    @precondition(paused)
    @rule()
    def it_is_resumed(self) -> None:
        self._run(self.path.router.release("paused"))
        self._tick()

    @precondition(holding)
    @rule()
    def house_is_kept(self) -> None:
        self._do(self.path.router.tick)

    @precondition(holding)
    @rule(within_s=st.sampled_from([0.0, 1.0, 70.0]))
    def it_drains_and_another_takes_over(self, within_s: float) -> None:
        old = self.path
        self._run(old.router.drain(within_s))
        self._run(self._end(old))
        assert old.broker.unacked == 0
        self.path = self._run(self._make(old))
        self._tick()

    @precondition(holding)
    @rule()
    def it_is_killed_and_another_takes_over(self) -> None:
        old = self.path
        if old.intake.connected:
            self._do(old.intake.kill)
        self._run(old.router.drain(0.0))
        self._run(self._end(old))
        self.path = self._run(self._make(old))
        self._tick()

    async def _end(self, path: PlainPath) -> None:
        await path.intake.close()
        await asyncio.gather(path.pool.stop(0.01), path.isolated.stop(0.01))

    # what must hold

    @invariant()
    def nothing_was_acked_before_its_outcome_was_safe(self) -> None:
        assert self.unsafe == []

    @invariant()
    def no_ack_was_refused(self) -> None:
        assert self.path.broker.refused == 0

    @invariant()
    def every_key_is_somewhere(self) -> None:
        path = self.path
        queued = {message.key for queue in path.broker.queues.values() for message in queue}
        held = {message.key for channel in path.broker.channels for message in channel.unacked.values()}
        lost = set(self.published) - queued - held - set(path.rows())
        assert not lost

    @invariant()
    def what_is_held_is_bounded_and_known(self) -> None:
        path = self.path
        held = sum(len(channel.unacked) for channel in path.broker.channels)
        assert path.intake.unacked == held or not path.intake.connected
        assert len(path.router.buffer) <= held

    @invariant()
    def no_step_failed(self) -> None:
        assert self.errors == []
        assert self.failed_steps.seen == []

    def teardown(self) -> None:
        if not hasattr(self, "path"):
            return
        try:
            self._come_to_rest()
        finally:
            self._run(self.path.stop())
            self._tick()
            self.loop.close()
            log.removeHandler(self.failed_steps)

    def _come_to_rest(self) -> None:
        path = self.path
        path.store.release()
        path.store._failures.clear()
        path.sender.failures.clear()
        for queue in path.broker.queues.values():
            for message in queue:
                message.headers.pop(h.DUE, None)  # years pass
        self._run(path.router.release("paused"))
        self._do(lambda: path.pool.resize(2))
        for _ in range(400):
            for worker, batch in path.running:
                self._answer(worker, batch, dict.fromkeys(self._left(worker, batch), "done"), still_open=0)
            for delay in path.topology.rung_delays_ms:
                for message in path.broker.queues[path.topology.rung(delay)]:
                    message.headers.pop(h.DUE, None)
            self._do(path.broker.expire)
            self._tick(1.0)
            if path.at_rest and not path.in_rungs():
                break
        self._tick(60.0)
        rows, dead = path.rows(), set(path.dead())
        missing = set(self.published) - set(rows) - dead
        assert not missing, f"neither a row nor a dead letter: {missing}; {len(path.router.buffer)} buffered"
        assert set(rows.values()) <= {1}
        assert path.at_rest, f"{path.broker.ready} ready, {path.broker.unacked} unacked, running {path.running}"
        assert path.intake.unacked == 0
        assert len(path.router.buffer) == len(path.quarantine) == 0
        assert all(not member.batches for member in [*path.pool.members, *path.isolated.members])
        assert path.router.holds == {}
        assert path.router.tasks.running == []
        self.every_key_is_somewhere()
        self.no_ack_was_refused()
        self.no_step_failed()
        self.nothing_was_acked_before_its_outcome_was_safe()


RouterMachine.TestCase.settings = settings(
    max_examples=75 * int(os.environ.get("ROUNDS", "1")),
    stateful_step_count=50,
    deadline=None,
    derandomize="ROUNDS" not in os.environ,  # `make test` is the same each time, `make faults` explores
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.slow
@pytest.mark.timeout(300)
class TestRouterMachine(RouterMachine.TestCase):
    """See the module."""

    def setUp(self) -> None:
        log.propagate = False  # thousands of failures are asked for here

    def tearDown(self) -> None:
        log.propagate = True
