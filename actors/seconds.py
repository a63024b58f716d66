"""What counts as a duration in the public API: a number of seconds or a timedelta, and nothing else. Pure."""

from __future__ import annotations

import math
import sys
from datetime import timedelta
from decimal import Decimal
from numbers import Real


def seconds_of(value: object) -> float | None:
    """The seconds of a timedelta, or of a real number (int, float, Decimal, Fraction, numpy's); None for all else.

    True and False are no numbers here, nor is numpy's timedelta64, whose number has a unit of its own.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return None
    if getattr(getattr(value, "dtype", None), "kind", "") == "m":
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return sys.float_info.max if abs(value) == value else -sys.float_info.max


def require_seconds(value: object, what: str) -> float:
    """As `seconds_of`. Raises TypeError, one line with `what` it is for and its type, where it is no duration, and
    ValueError where it is not a finite one.
    """
    found = seconds_of(value)
    if found is None:
        kind = type(value).__qualname__
        raise TypeError(f"{what}: seconds as a number, or a timedelta, not {_shown(value)} ({kind})")
    if not math.isfinite(found):
        raise ValueError(f"{what}: a finite number of seconds, not {_shown(value)}")
    return found


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."
