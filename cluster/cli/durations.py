"""Times on the command line: `90s`, `15m`, `2h`, `7d`."""

from __future__ import annotations

import re
from typing import Final

import click

UNITS_S: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_TEXT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


class Duration(click.ParamType[float]):
    """A duration in seconds, or with a unit."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, int | float):
            return float(value)
        match = _TEXT.fullmatch(str(value).strip().lower())
        if match is None:
            self.fail(f"{str(value)[:40]!r} is no time: give e.g. 90s, 15m, 2h or 7d", param, ctx)
        return float(match[1]) * UNITS_S[match[2]]
