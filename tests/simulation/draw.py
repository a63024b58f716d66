"""Draws a Script from a seed. Each history has only some kinds of steps and faults: rare combinations come up so."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.simulation.faults import KINDS
from tests.simulation.script import Arg, Fault, Script, Step

STEPS_UNTIL_S = 40.0
WAITS_S = (0.01, 0.1, 0.5, 2.0, 6.0)

Draw = Callable[[random.Random], tuple[Arg, ...]]


def _publish(draw: random.Random) -> tuple[Arg, ...]:
    do = draw.choice(("ok", "ok", "ok", "slow", "raise", "retry", "reject", "call", "call", "die", "hang", "unreadable"))
    most = {"die": 2, "hang": 1, "slow": 3}.get(do, 8)
    value = {"slow": draw.choice((0.5, 2.0, 5.0)), "call": 1.0}.get(do, float(draw.choice((1, 2, 9))))
    how = draw.choice(("", "", "packed", "shared", "keyed"))
    due_s = draw.choice((0.0, 0.0, 0.0, 0.5, 2.5, 7.0))
    return draw.randint(1, most), do, value, how, due_s


STEPS: dict[str, Draw] = {
    "cut": lambda draw: (draw.choice((0.0, 0.0, 0.3, 3.0)), draw.choice((0.0, 0.0, 0.3, 3.0))),
    "flaky": lambda draw: (draw.choice((0.001, 0.05, 1.0)), draw.choice((5.0, 20.0))),
    "delete_rung": lambda draw: (draw.randint(0, 1),),
    "crash": lambda draw: (draw.randint(0, 3),),
    "lose_node": lambda draw: (draw.randint(0, 1),),
    "down": lambda draw: (1.0,),
    "up": lambda draw: (1.0,),
    "store_full": lambda draw: (),
    "store_well": lambda draw: (),
    "store_dies": lambda draw: (draw.choice((0.5, 5.0)),),
    "pause": lambda draw: (),
    "resume": lambda draw: (),
    "resize": lambda draw: (draw.randint(0, 4),),
    "widen": lambda draw: (draw.randint(1, 20), draw.randint(1, 5)),
    "kill_router": lambda draw: (draw.choice((0.0, 0.5)),),
}


def script_of(seed: int | str) -> Script:
    """The script of a seed."""
    draw = random.Random(f"spine-{seed}")
    return Script(
        steps=tuple(_steps(draw)),
        faults=tuple(_faults(draw)),
        workers=draw.randint(1, 3),
        window=draw.choice((2, 6, 10, 20)),
        batch_size=draw.randint(1, 4),
        slots=draw.choice((1, 1, 4)),
        order=draw.choice(("head", "head", "tail")),
        limit=draw.choice((0, 0, 0, 5)),
    )


def _steps(draw: random.Random) -> list[Step]:
    kinds = draw.sample(sorted(STEPS), draw.randint(0, 4))
    at, steps = 0.0, []
    for _ in range(draw.randint(2, 14)):
        at += draw.choice(WAITS_S)
        kind = draw.choice(("publish", "publish", *kinds))
        steps.append(Step(round(at, 2), kind, _publish(draw) if kind == "publish" else STEPS[kind](draw)))
    return steps


def _faults(draw: random.Random) -> list[Fault]:
    places = draw.sample(sorted(KINDS), draw.randint(0, 4))
    return [
        Fault(place, draw.randint(1, 12), draw.choice(KINDS[place]), draw.choice((0.01, 0.5, 3.0, 20.0)))
        for place in places
        for _ in range(draw.randint(1, 3))
    ]
