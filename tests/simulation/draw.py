"""Draws a Script from a seed. Each history has only some kinds of steps and faults: rare combinations come up so."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.faults import KINDS
from tests.simulation.script import Arg, Fault, Script, Step

WAITS_S = (0.01, 0.1, 0.5, 2.0, 6.0)

Draw = Callable[[random.Random], tuple[Arg, ...]]


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
    "drain_router": lambda draw: (draw.choice((0.0, 1.0, 30.0)),),
    "second_router": lambda draw: (),
    "kill_router": lambda draw: (draw.choice((0.0, 0.5)),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """What a history is mostly about."""

    do: tuple[str, ...]
    how: tuple[str, ...] = ("", "", "packed", "shared", "keyed")
    due_s: tuple[float, ...] = (0.0, 0.0, 0.0, 0.5, 2.5, 7.0)
    steps: tuple[str, ...] = tuple(STEPS)
    places: tuple[str, ...] = tuple(KINDS)
    first: tuple[Step, ...] = ()


THEMES = (
    Theme(do=("ok", "ok", "ok", "slow", "raise", "retry", "reject", "call", "die", "fat", "hang", "unreadable")),
    Theme(
        do=("call", "call", "call", "ok", "reject", "unreadable"),
        how=("",),
        due_s=(0.0,),
        steps=("up", "down", "pause", "resume", "cut", "crash", "kill_router", "widen", "resize"),
        places=("run", "write", "publish"),
        first=(Step(0.6, "down", (1.0,)),),
    ),
    Theme(
        do=("call", "ok"),
        how=("",),
        due_s=(0.0,),
        steps=("pause", "pause", "resume"),
        places=("qos", "consume", "cancel"),
        first=(Step(0.6, "down", (1.0,)), Step(0.7, "publish", (8, "call", 1.0))),
    ),
    Theme(
        do=("retry", "raise", "reject", "unreadable", "ok"),
        how=("", "shared", "shared", "packed"),
        due_s=(0.0, 0.5, 2.5, 2.5),
        steps=("delete_rung", "delete_rung", "cut", "kill_router", "store_full", "store_well"),
        places=("publish", "dead_rows"),
    ),
    Theme(
        do=("ok", "slow", "retry", "reject"),
        steps=("cut", "flaky", "widen", "pause", "resume", "kill_router"),
        places=("connect", "qos", "consume", "cancel"),
    ),
)


def script_of(seed: int) -> Script:
    """The script of a seed. The themes take turns."""
    draw, theme = random.Random(f"spine-{seed}"), THEMES[seed % len(THEMES)]
    return Script(
        steps=(*theme.first, *_steps(draw, theme)),
        faults=tuple(_faults(draw, theme)),
        workers=draw.randint(1, 3),
        window=draw.choice((2, 6, 10, 20)),
        batch_size=draw.randint(1, 4),
        slots=draw.choice((1, 1, 4)),
        order=draw.choice(("head", "head", "tail")),
        limit=draw.choice((0, 0, 0, 5)),
    )


def _steps(draw: random.Random, theme: Theme) -> list[Step]:
    kinds = draw.sample(theme.steps, draw.randint(0, min(4, len(theme.steps))))
    at, steps = 0.0, []
    for _ in range(draw.randint(2, 14)):
        at += draw.choice(WAITS_S)
        kind = draw.choice(("publish", "publish", *kinds))
        steps.append(Step(round(at, 2), kind, _publish(draw, theme) if kind == "publish" else STEPS[kind](draw)))
    return steps


def _publish(draw: random.Random, theme: Theme) -> tuple[Arg, ...]:
    do = draw.choice(theme.do)
    most = {"die": 2, "fat": 2, "hang": 1, "slow": 3}.get(do, 8)
    value = {"slow": draw.choice((0.5, 2.0, 5.0)), "call": 1.0}.get(do, float(draw.choice((1, 2, 9))))
    return draw.randint(1, most), do, value, draw.choice(theme.how), draw.choice(theme.due_s)


def _faults(draw: random.Random, theme: Theme) -> list[Fault]:
    places = draw.sample(theme.places, draw.randint(0, min(4, len(theme.places))))
    return [
        Fault(place, draw.randint(1, 12), draw.choice(KINDS[place]), draw.choice((0.01, 0.5, 3.0, 20.0)))
        for place in places
        for _ in range(draw.randint(1, 3))
    ]
