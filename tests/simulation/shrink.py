"""Makes a failing script shorter: fewer events and smaller numbers, for as long as the same rule is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.simulation.script import Fault, Script, Step

TRIES_MOST = 400


def shrunk(script: Script, fails: Callable[[Script], bool], *, tries: int = TRIES_MOST) -> Script:
    """The smallest script that was found within so many tries; `fails` says whether one still shows it."""
    left = tries
    improved = True
    while improved and left > 0:
        improved = False
        for smaller in _smaller(script):
            left -= 1
            if left < 0:
                break
            if fails(smaller):
                script, improved = smaller, True
                break
    return script


def _smaller(script: Script) -> Iterator[Script]:
    """Scripts a step simpler, the boldest first."""
    events = list(script.events)
    size = len(events) // 2
    while size:
        for at in range(0, len(events), size):
            yield _of(script, events[:at] + events[at + size :])
        size //= 2
    plain = Script()
    for name in ("limit", "slots", "order", "workers", "batch_size", "window"):
        if getattr(script, name) != getattr(plain, name):
            yield replace(script, **{name: getattr(plain, name)})
    for at, event in enumerate(events):
        for simpler in _simpler(event):
            yield _of(script, [*events[:at], simpler, *events[at + 1 :]])


def _simpler(event: Step | Fault) -> Iterator[Step | Fault]:
    if isinstance(event, Fault):
        return
    if event.do == "publish":
        count, do, *rest = event.args
        if isinstance(count, int) and count > 1:
            yield replace(event, args=(1, do, *rest))
            yield replace(event, args=(count // 2, do, *rest))
            yield replace(event, args=(count - 1, do, *rest))
        if len(rest) == 3 and rest[1:] != ["", 0.0]:
            yield replace(event, args=(count, do, rest[0], "", 0.0))
        if do != "ok":
            yield replace(event, args=(count, "ok", 0.0, *rest[1:]))
    if event.at != round(event.at):
        yield replace(event, at=float(round(event.at)))


def _of(script: Script, events: list[Step | Fault]) -> Script:
    return replace(
        script,
        steps=tuple(event for event in events if isinstance(event, Step)),
        faults=tuple(event for event in events if isinstance(event, Fault)),
    )
