"""What is set reaches what it is for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiormq
import pytest

import rabbitray.cluster
from rabbitray.cluster.driver import compose
from rabbitray.cluster.settings import Settings, load

INSIDE = {"rabbitmq_url_file", "insecure_skip_verify"}
"""Settings that another setting takes up while they are loaded."""


def made(**changed: object) -> Settings:
    return Settings.model_validate(changed)


def test_every_setting_is_read_somewhere() -> None:
    folder = Path(str(rabbitray.cluster.__file__)).parent
    code = "".join(
        path.read_text(encoding="utf-8")
        for path in folder.rglob("*.py")
        if "settings" not in path.parts and path.name != "checks.py"
    )
    model = (folder / "settings" / "model.py").read_text(encoding="utf-8").partition("@property")[2]
    unread = {name for name in Settings.model_fields if not re.search(rf"settings\.{name}\b", code)}
    unread = {name for name in unread if f"self.{name}" not in model}
    assert unread - INSIDE == set()


def test_the_range_of_the_window_for_a_worker() -> None:
    limits = compose.window_limits(made(prefetch_min=7, prefetch_max=70))
    assert (limits.per_worker_min, limits.per_worker_max) == (7, 70)


def test_the_users_rows_for_the_error_categories_reach_the_workers() -> None:
    settings = made(error_categories="mylib.QuotaError=transient, 418 = permanent")
    assert compose.error_categories(settings) == {"mylib.QuotaError": "transient", "418": "permanent"}


def test_whether_a_queue_that_drops_is_taken() -> None:
    assert not compose.topology(made()).take_limited
    assert compose.topology(made(take_limited_queue=True)).take_limited


def test_the_size_of_a_frame_is_checked_by_the_router() -> None:
    loaded = load({"frame_max": 65536}, {}, None)
    assert compose.router(loaded, "a:b", 1).intake.frame_max == 65536


def test_router_and_workers_hold_a_message_to_the_same_bounds() -> None:
    setup = compose.router(load({"max_message_bytes": 70_000, "max_records": 7, "max_depth": 9}, {}, None), "a:b", 1)
    bounds = setup.intake.limits
    assert (bounds.max_message_bytes, bounds.max_records, bounds.max_depth) == (70_000, 7, 9)
    assert setup.worker.config.wire == bounds


def test_workers_know_the_store_that_they_ask_for_finished_keys() -> None:
    given: dict[str, object] = {"pool": "mine", "ray_namespace": "there", "skip_done": "always"}
    worker = compose.router(load(given, {}, None), "a:b", 1).worker
    assert (worker.store, worker.namespace, worker.skip_done) == ("mine-store", "there", "always")


@pytest.mark.parametrize(
    ("url", "skip", "verified"),
    [
        ("amqps://u:p@h/v", True, False),
        ("amqps://u:p@h/v?cafile=/a", "true", False),
        ("amqps://u:p@h/v", False, True),
        ("amqps://u:p@h/v?no_verify_ssl=0", True, True),
    ],
)
async def test_certificates_are_checked_unless_that_is_switched_off(url: str, skip: object, verified: bool) -> None:
    revealed = made(rabbitmq_url=url, insecure_skip_verify=skip).rabbitmq_url.reveal()
    certificates: Any = aiormq.Connection(revealed).ssl_certs
    assert certificates.verify is verified
    assert ("cafile=/a" in url) == (certificates.cafile == "/a")


def test_a_plain_url_stays_as_it_is() -> None:
    url = "amqp://u:p@h/v"
    assert made(rabbitmq_url=url, insecure_skip_verify=True).rabbitmq_url.reveal() == url


def test_without_retries_nothing_is_sent_to_a_rung_that_is_not_made() -> None:
    """What is not due, and what fails in an outage, would come back at once, over and over."""
    assert compose.rungs(made(max_retries=0)) == compose.topology(made(queue="q", max_retries=0)).rung_delays_ms == ()
    assert compose.rungs(made(max_retries=1)) == compose.topology(made(queue="q", max_retries=1)).rung_delays_ms != ()


def test_what_comes_before_a_size_is_known_fits_into_the_windows_bytes() -> None:
    settings = made(window_max_bytes="64MiB", max_message_bytes="16MiB")
    assert (compose.start_window(settings), compose.window_limits(settings).largest_message) == (4, 2**24)
    assert compose.start_window(made(window_max_bytes="64GiB")) == compose.START_WINDOW
    loaded = load({"prefetch_count": 50}, {}, None)
    assert compose.router(loaded, "a:b", 1).window == compose.router(loaded, "a:b", 1).kept_window == 50


def test_a_pool_of_long_jobs_begins_with_a_window_of_what_it_runs() -> None:
    hour = made(handler_timeout_s=3600, initial_size=3, max_size=6)
    assert compose.start_window(hour) == 3
    assert compose.window_limits(hour).long_jobs
    assert compose.window_limits(made(handler_timeout_s=60, max_run_s=3600)).long_jobs, "they may run as long"
    assert not compose.window_limits(made()).long_jobs
    assert compose.consumer_timeout(hour).needed_s == pytest.approx(300 + 3600 + 5, abs=1)
