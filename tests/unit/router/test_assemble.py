"""The stations of a router, put together from its settings: wired, and none has begun."""

from __future__ import annotations

import time
from dataclasses import replace

from rabbitray.actors.router.assemble import CRASH_PREFIX, Parts, assemble, crash_counts
from rabbitray.actors.router.dispatch.quarantine import identity
from rabbitray.actors.router.report import pool_status, router_report
from rabbitray.actors.store.client import StoreClient
from rabbitray.cluster.driver import compose
from rabbitray.cluster.settings import load
from tests.kit.deliveries import delivery
from tests.kit.pool_status import QUIET_REPORT


def assembled(control: dict[str, object] | None = None, **own: object) -> Parts:
    loaded = load({"pool": "jobs", "queue": "jobs", **own}, {"RABBITMQ_URL": "amqp://127.0.0.1:1/"}, None)
    store = StoreClient("jobs-store", "rabbitray", "jobs")
    return assemble(compose.router(loaded, "mylib:handle", 4), control or {}, store)


async def test_nothing_has_begun() -> None:
    parts = assembled()
    now = time.monotonic()
    status = pool_status(parts, now)
    assert (status.workers, status.starting, status.target, status.held, status.epoch) == (0, 0, 0, 0, 0)
    assert not parts.intake.connected
    assert not parts.router.fenced.is_set()
    assert router_report(parts, now, loop_lag_s=0.0) == replace(
        QUIET_REPORT, pool=status, connected=False, generation=0, broker=""
    )


async def test_a_message_that_killed_a_worker_is_known_again() -> None:
    suspect, other = delivery(1), delivery(2)
    parts = assembled({CRASH_PREFIX + identity(suspect): 1})
    assert (parts.quarantine.knows(suspect), parts.quarantine.knows(other)) == (True, False)


async def test_without_metrics_nothing_is_measured() -> None:
    assert assembled(metrics_enabled=False).meter is None
    assert assembled().meter is not None


def test_the_store_remembers_who_killed_a_worker() -> None:
    control: dict[str, object] = {CRASH_PREFIX + "a": 1, CRASH_PREFIX + "b": None, "paused": "night"}
    assert crash_counts(control) == {"a": 1}


def test_a_fixed_size_keeps_within_the_bounds() -> None:
    loaded = load({"min_size": 1, "initial_size": 2, "max_size": 4}, {}, None)
    setup = compose.router(loaded, "mylib:handle", 8)
    assert [setup.first_size({"fixed_size": size}) for size in (None, 0, 3, 9)] == [2, 1, 3, 4]
