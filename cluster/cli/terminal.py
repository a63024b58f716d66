"""Standard output as people read it."""

from __future__ import annotations

from rich.console import Console


def console(pipe_width: int = 160) -> Console:
    """The terminal; where there is none the width is nobody's, and `pipe_width` columns cut and fold nothing."""
    found = Console()
    return found if found.is_terminal else Console(width=pipe_width)
