"""What an exception of a handler means."""

from __future__ import annotations

import pytest

from rabbitray.actors.errors import Reject, Retry
from rabbitray.actors.worker.verdict import Categories, Judgement, judge


@pytest.mark.parametrize(
    ("error", "judgement"),
    [
        (ConnectionError(), Judgement(verdict="retry", reason="exception", category="transient")),
        (RuntimeError(), Judgement(verdict="retry", reason="exception", category="unknown")),
        (ValueError(), Judgement(verdict="dead", reason="permanent", category="permanent")),
        (Reject("no"), Judgement(verdict="dead", reason="rejected", category="permanent")),
        (Retry(), Judgement(verdict="retry", reason="retry_requested", category="transient")),
        (Retry(after_s=9), Judgement(verdict="retry", reason="retry_requested", category="transient", after_s=9)),
    ],
)
def test_what_an_exception_means(error: Exception, judgement: Judgement) -> None:
    assert judge(error, Categories()) == judgement
