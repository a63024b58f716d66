"""Script: what happens in one history, as a value that can be printed, run again and made shorter. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Order = Literal["head", "tail"]
Arg = int | float | str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """`do` names a method of `Stage`; `at`: virtual seconds from the beginning."""

    at: float
    do: str
    args: tuple[Arg, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong the `nth` time (from 1) that a call into a double passes `place`; see faults.py."""

    place: str
    nth: int
    kind: str
    value: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One history. `order`: where the broker puts what is given back; `limit`: its delivery limit, 0 for none."""

    steps: tuple[Step, ...] = ()
    faults: tuple[Fault, ...] = ()
    workers: int = 2
    window: int = 10
    batch_size: int = 3
    slots: int = 1
    order: Order = "head"
    limit: int = 0

    @property
    def events(self) -> tuple[Step | Fault, ...]:
        """All that may be left out."""
        return (*self.steps, *self.faults)

    def text(self) -> str:
        """As Python, one event a line."""
        plain = Script()
        lines = [f"    {e!r}," for e in self.steps]
        faults = [f"    {e!r}," for e in self.faults]
        own = [
            f"  {field.name}={getattr(self, field.name)!r},"
            for field in fields(self)
            if field.name not in ("steps", "faults") and getattr(self, field.name) != getattr(plain, field.name)
        ]
        return "\n".join(["Script(", *own, "  steps=(", *lines, "  ),", "  faults=(", *faults, "  ),", ")"])
