"""How the work of a function grows with the size of what it is given."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

LEAST_S: Final = 0.03
"""Below, a clock says little: what is that quick for the larger input is no danger."""


def growth(function: Callable[[T], object], small: T, large: T) -> float:
    """How many times longer it takes for `large`: the best of three each, in CPU time, for the machine may be busy."""
    if _spent_s(function, large) < LEAST_S:
        return 1.0
    long_s, short_s = (min(_spent_s(function, given) for _ in range(3)) for given in (large, small))
    return long_s / max(short_s, 1e-6)


def _spent_s(function: Callable[[T], object], given: T) -> float:
    """Without the passes of the garbage collector, whose number depends on all else that the process holds."""
    gc.disable()
    try:
        before = time.process_time()
        function(given)
        return time.process_time() - before
    finally:
        gc.enable()
