"""The end of traces and metrics: in a thread, with a deadline; an error of it is told."""

from __future__ import annotations

import threading

import pytest

from rabbitray.cluster.telemetry.shutdown import Shutdown


def test_an_end_that_failed_is_not_whole_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise KeyError("no exporter")

    end = Shutdown(fails, "traces-shutdown")
    assert not end.begun
    assert [end.within(10.0), end.within(10.0)] == [False, False]
    assert "The end of telemetry failed (traces-shutdown)" in caplog.text


def test_it_is_done_once_and_waited_for_no_longer_than_allowed() -> None:
    collector, done = threading.Event(), []

    def sends() -> None:
        collector.wait(10)
        done.append("sent")

    end = Shutdown(sends, "traces-shutdown")
    assert not end.within(0.0)
    collector.set()
    assert end.within(10.0)
    assert end.within(0.0)
    assert done == ["sent"]
