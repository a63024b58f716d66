"""What an exception of a handler means."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import math
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

from rabbitray.actors.errors import Reject, Retry
from rabbitray.actors.secret import Redactor, Secret
from rabbitray.actors.worker.outcome.error_text import describe
from rabbitray.actors.worker.outcome.verdict import Categories, Judgement, judge


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


REJECTED = Judgement(verdict="dead", reason="rejected", category="permanent")
PERMANENT = Judgement(verdict="dead", reason="permanent", category="permanent")
TRANSIENT = Judgement(verdict="retry", reason="exception", category="transient")
UNKNOWN = Judgement(verdict="retry", reason="exception", category="unknown")


def asked(after_s: float | None = None, *, cut: bool = False) -> Judgement:
    return Judgement(verdict="retry", reason="retry_requested", category="transient", after_s=after_s, cut=cut)


def raised_from(error: Exception, *causes: Exception) -> Exception:
    """The error, raised from the first cause, which was raised from the next one."""
    for one, cause in itertools.pairwise([error, *causes]):
        one.__cause__ = cause
    return error


def while_handling(error: Exception, handled: Exception) -> Exception:
    error.__context__ = handled
    return error


class OwnError(Exception): ...


@pytest.mark.parametrize(
    ("members", "judgement"),
    [
        ([Reject("no"), Retry(after_s=5), ConnectionError()], REJECTED),
        ([ValueError(), Retry(after_s=5), Retry(after_s=9), Retry()], asked(9.0)),
        ([Retry(), Retry()], asked()),
        ([ConnectionError(), ValueError(), OwnError()], PERMANENT),
        ([OwnError(), ConnectionError()], TRANSIENT),
        ([OwnError(), OwnError()], UNKNOWN),
        ([OwnError(), ExceptionGroup("inner", [ConnectionError(), ExceptionGroup("", [Reject("no")])])], REJECTED),
        ([raised_from(OwnError(), Retry(after_s=7))], asked(7.0)),
    ],
)
def test_a_group_is_judged_by_its_members(members: list[Exception], judgement: Judgement) -> None:
    assert judge(ExceptionGroup("several", members), Categories()) == judgement


def test_rows_of_ones_own_for_a_group_come_first() -> None:
    group = ExceptionGroup("several", [ValueError()])
    assert judge(group, Categories({"ExceptionGroup": "transient"})) == TRANSIENT
    assert judge(group, Categories({"ValueError": "transient"})) == TRANSIENT


@pytest.mark.parametrize(
    ("error", "judgement"),
    [
        (raised_from(OwnError(), ConnectionError()), TRANSIENT),
        (raised_from(OwnError(), OwnError(), ValueError()), PERMANENT),
        (raised_from(OwnError(), Reject("no")), REJECTED),
        (raised_from(ValueError(), Retry(after_s=3)), asked(3.0)),
        (raised_from(Retry(after_s=3), Reject("no")), asked(3.0)),
        (raised_from(ConnectionError(), ValueError()), TRANSIENT),
        (raised_from(OwnError(), ExceptionGroup("several", [ValueError(), Retry()])), asked()),
        (while_handling(OwnError(), ConnectionError()), UNKNOWN),
        (while_handling(OwnError(), Reject("no")), UNKNOWN),
    ],
)
def test_what_was_raised_from_another_is_judged_by_it(error: Exception, judgement: Judgement) -> None:
    """Not what was raised while another was handled: that says nothing of why."""
    assert judge(error, Categories()) == judgement


def test_a_ring_of_causes_and_a_deep_nest_of_groups_end() -> None:
    ring = raised_from(OwnError("a"), OwnError("b"))
    assert ring.__cause__ is not None
    ring.__cause__.__cause__ = ring
    deep: Exception = ValueError("deep")
    for _ in range(500):
        deep = ExceptionGroup("", [deep])
    for error in (ring, deep):
        assert judge(error, Categories()) == UNKNOWN
        assert len(describe(error)[1]) < 500


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            ExceptionGroup("several", [ConnectionError("refused"), Reject("closed")]),
            "several (2 sub-exceptions): ConnectionError: refused; rabbitray.actors.errors.Reject: closed",
        ),
        (
            ExceptionGroup("s", [ValueError(str(n)) for n in range(9)]),
            "s (9 sub-exceptions): ValueError: 0; ValueError: 1; ValueError: 2; ...",
        ),
        (
            ExceptionGroup("s", [ExceptionGroup("t", [ValueError("two\nlines")])]),
            "s (1 sub-exception): ValueError: two lines",
        ),
        (raised_from(ValueError("bad"), KeyError("k")), "bad; caused by KeyError: 'k'"),
        (raised_from(TimeoutError(), asyncio.CancelledError()), "TimeoutError"),
        (while_handling(ValueError("bad"), KeyError("k")), "bad"),
    ],
)
def test_the_text_names_the_first_members_and_the_cause(error: Exception, says: str) -> None:
    assert describe(error)[1] == says


@pytest.mark.parametrize("before", [0, 285, 292])
def test_no_part_of_a_secret_is_left_where_a_member_or_a_cause_is_cut(before: int) -> None:
    url = "amqp://user:a-password-of-the-pool@host/"
    careless = ConnectionError("x" * before + url)
    for error in (ExceptionGroup("several", [careless]), raised_from(ValueError("bad"), careless)):
        assert "a-pass" not in describe(error, Redactor(Secret(url)))[1]


def test_the_text_of_a_process_pools_traceback_is_no_cause() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        error = pool.submit(int, "no number").exception()
    assert error is not None
    assert error.__cause__ is not None
    assert describe(error)[1] == "invalid literal for int() with base 10: 'no number'"
    assert judge(error, Categories()) == PERMANENT


class WithoutInit(Retry):
    def __init__(self, code: int) -> None:
        self.code = code


class Property(Retry):
    @property
    def after_s(self) -> Any:  # type: ignore[override] # the user's
        raise OSError("not now")


class OwnWait(Retry):
    after_s = dt.timedelta(minutes=1)  # type: ignore[assignment] # the user's


class RejectWithoutInit(Reject):
    def __init__(self, code: int) -> None:
        self.code = code


class Cause(Exception):
    @property
    def __cause__(self) -> Any:  # type: ignore[override] # the user's
        raise OSError("not now")


class Members(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> Any:
        raise SystemExit


@pytest.mark.parametrize(
    ("error", "judgement"),
    [
        (WithoutInit(7), asked()),
        (OwnWait(), asked(60.0)),
        (RejectWithoutInit(7), REJECTED),
        (Property(), asked()),
        (Cause(), UNKNOWN),
        (Members("m", [ValueError()]), UNKNOWN),
    ],
)
def test_a_subclass_that_is_half_made_or_raises_harms_nobody(error: Exception, judgement: Judgement) -> None:
    assert judge(error, Categories()) == judgement
    assert describe(error)[0].startswith(__name__)


@pytest.mark.parametrize(
    ("wait", "after_s"),
    [
        (20, 20.0),
        (1.5, 1.5),
        (dt.timedelta(seconds=20), 20.0),
        (Decimal("0.5"), 0.5),
        (np.float32(2), 2.0),
        (0, 0.0),
        (-3, 0.0),
        (dt.timedelta(seconds=-3), 0.0),
        (None, None),
    ],
    ids=repr,
)
def test_what_is_a_duration_counts(wait: Any, after_s: float | None) -> None:
    assert judge(Retry(after_s=wait), Categories()) == asked(after_s)


def test_a_wait_of_more_than_30_days_is_30_days() -> None:
    assert judge(Retry(after_s=dt.timedelta(days=31)), Categories()) == asked(30 * 86_400.0, cut=True)


@pytest.mark.parametrize(
    ("wait", "error", "says"),
    [
        ("20", TypeError, "Retry(after_s=...): seconds as a number, or a timedelta, not '20' (str)"),
        (True, TypeError, "not True (bool)"),
        ([20], TypeError, "not [20] (list)"),
        (dt.time(second=20), TypeError, "(time)"),
        (np.timedelta64(20, "m"), TypeError, "(timedelta64)"),
        (math.nan, ValueError, "a finite number of seconds, not nan"),
        (math.inf, ValueError, "a finite number of seconds, not inf"),
        (Decimal("NaN"), ValueError, "not Decimal('NaN')"),
    ],
    ids=repr,
)
def test_what_is_none_is_refused_where_it_is_made(wait: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=re.escape(says)):
        Retry(after_s=wait)


@pytest.mark.parametrize("reason", [20, 1.5, True, Decimal(20), dt.timedelta(seconds=20)], ids=repr)
def test_a_duration_is_no_reason(reason: Any) -> None:
    with pytest.raises(TypeError, match=r"the reason is a text; seconds to wait are Retry\(after_s="):
        Retry(reason)


def test_a_retry_crosses_to_another_process() -> None:
    made = pickle.loads(pickle.dumps(Retry("later", after_s=dt.timedelta(seconds=9))))
    assert (str(made), made.after_s) == ("later", 9.0)
