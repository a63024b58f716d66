"""The notice that a spot instance is taken back; the drain itself is in tests/cluster."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from rabbitray.cluster.deploy.spot.notice import drain_s, main, notice, wait_for_notice
from tests.kit.spot_metadata import SpotMetadata, spot_metadata

AT = datetime(2026, 12, 1, 8, 22, tzinfo=UTC)


@pytest.fixture
def cloud() -> Iterator[SpotMetadata]:
    with spot_metadata(socket.create_server(("127.0.0.1", 0))) as server:
        yield server


def test_there_is_none_until_the_cloud_says_so(cloud: SpotMetadata) -> None:
    assert notice(cloud.url) is None
    cloud.takes_back_at = "2026-12-01T08:22:00Z"
    assert notice(cloud.url) == AT


def test_it_is_waited_for_also_while_nobody_answers(cloud: SpotMetadata, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    turns = 0

    def sleep(_: float) -> None:
        nonlocal turns
        turns += 1
        if turns == 3:
            raise KeyboardInterrupt

    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        wait_for_notice(nobody, sleep=sleep)
    assert len(caplog.records) == 1

    def comes(_: float) -> None:
        cloud.takes_back_at = "2026-12-01T08:22:00Z"

    assert wait_for_notice(cloud.url, sleep=comes) == AT
    assert cloud.asked == 2


@pytest.mark.parametrize(("left_s", "drain"), [(120, 110), (12, 2), (3, 1), (-60, 1)])
def test_ray_has_some_seconds_of_the_notice_to_end(left_s: int, drain: int) -> None:
    assert drain_s(AT, AT - timedelta(seconds=left_s)) == drain


def test_the_unit_runs_it_with_the_python_that_prints_it() -> None:
    ran = CliRunner().invoke(main, ["--unit"])
    lines = ran.output.splitlines()
    assert ran.exit_code == 0
    assert [line for line in lines if line.startswith("ExecStart=") and line.endswith("spot.notice")]
    assert "WantedBy=multi-user.target" in lines
