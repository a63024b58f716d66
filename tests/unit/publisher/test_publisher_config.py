"""The publisher without a node: its settings, its limits, its back-off and its meter."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from rabbitray.actors.errors import (
    BrokerUnreachableError,
    ConfigurationError,
    UnroutableError,
)
from rabbitray.actors.publisher import Meter, PublishBatch, Publisher, SyncPublisher
from tests.kit.eventually import eventually
from tests.kit.publishing import Sink, config


def test_the_format_bounds_a_packed_message_too() -> None:
    plain = config("amqp://localhost", max_records=100_000)
    assert plain.packed_size(65_534) == 65_534
    with pytest.raises(ConfigurationError):
        plain.packed_size(65_535)
    assert [plain.packed_size(packed) for packed in (False, 0, True, 1)] == [0, 0, 100, 1]


@pytest.mark.parametrize("name", ["confirm_timeout_s", "connect_timeout_s", "backoff_max_s", "close_timeout_s"])
@pytest.mark.parametrize("wrong", ["5", True, math.nan, math.inf, -1, timedelta(seconds=-1), None], ids=repr)
def test_a_duration_that_is_none_is_refused_in_one_line(name: str, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"publisher: {name}") as caught:
        config("amqp://localhost", **{name: wrong})
    assert "\n" not in str(caught.value)


async def test_what_is_a_duration_counts() -> None:
    taken: dict[str, Any] = {"confirm_timeout_s": timedelta(seconds=3), "heartbeat_s": timedelta(seconds=20)}
    made = config("amqp://localhost", backoff_base_s=Decimal("0.5"), close_timeout_s=0, **taken)
    found = (made.confirm_timeout_s, made.heartbeat_s, made.backoff_base_s, made.close_timeout_s)
    assert (found, [type(one) for one in found]) == ((3.0, 20, 0.5, 0.0), [float, int, float, float])
    for wrong in ("5", -1, math.nan):
        with pytest.raises(ConfigurationError, match=r"publisher: close\(timeout_s\)"):
            await Publisher(made).close(wrong)  # type: ignore[arg-type] # as an untyped caller would
        with pytest.raises(ConfigurationError, match=r"publisher: close\(timeout_s\)"):
            SyncPublisher(made).close(wrong)  # type: ignore[arg-type] # as above


@pytest.mark.parametrize("wrong", ["3", 2.5, None])
def test_a_count_that_is_no_whole_number_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="publisher: window must be a whole number, 1 or more"):
        config("amqp://localhost", window=wrong)


async def test_an_unreachable_broker_is_one_clear_line() -> None:
    url = "amqp://user:s3cret@127.0.0.1:9/"
    with pytest.raises(BrokerUnreachableError, match=r"127\.0\.0\.1:9") as caught:
        await Publisher(config(url)).open()
    assert "s3cret" not in str(caught.value)


def test_settings_that_cannot_work_are_refused() -> None:
    for wrong in ({"channels": 0}, {"confirm_timeout_s": 0}, {"heartbeat_s": 0}, {"queue": ""}, {"queue": "x" * 256}):
        with pytest.raises(ConfigurationError):
            config("amqp://localhost", **wrong)


async def test_an_address_that_is_no_amqp_url_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        await Publisher(config("http://user:s3cret@localhost")).open()
    for password in ("s3cret", "s3/cret", "s3?cret", "s3[cret", "s3\\cret", "s3:cret@"):
        with pytest.raises(ConfigurationError, match=r"not an AMQP URL: http://\*\*\*@localhost$"):
            await Publisher(config(f"http://user:{password}@localhost")).open()


def test_a_config_does_not_show_its_password() -> None:
    shown = repr(config("amqp://user:s3cret@localhost"))
    assert "s3cret" not in shown
    assert config("amqp://user:s3cret@localhost") == config("amqp://user:s3cret@localhost")


def test_a_producer_s_import_pulls_in_neither_ray_nor_duckdb() -> None:
    code = (
        "import sys, rabbitray; early = set(sys.modules);"
        "from rabbitray import Job, Publisher, SyncPublisher, Retry, Reject;"
        "heavy = {'ray', 'duckdb', 'pyarrow', 'opentelemetry'} & set(sys.modules);"
        "assert not heavy, heavy; assert 'aiormq' not in early"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_a_few_records_are_flushed_after_the_interval() -> None:
    sink = Sink()
    meter = Meter(sink, size=50, interval_s=0.02)
    meter.start()
    meter.confirmed(0.001)
    meter.failed(UnroutableError("x"))
    await eventually(lambda: sink.batches)
    assert sink.batches == [PublishBatch(durations_s=(0.001,), failures={"unroutable": 1})]


# -- rules


def test_backoff_grows_is_capped_and_uses_all_of_its_jitter() -> None:
    plain = config("amqp://localhost", backoff_base_s=0.1, backoff_max_s=5.0).backoff
    assert [replace(plain, failures=n).delay_s(1.0) for n in (0, 1, 5, 6, 1000)] == [0.1, 0.2, 3.2, 5.0, 5.0]
    assert replace(plain, failures=3).delay_s(0.0) == 0.0
