"""Standard output as people read it."""

from __future__ import annotations

from rich.console import Console


def console(pipe_width: int = 160) -> Console:
    """The terminal; where there is none, `pipe_width` columns, so that nothing is cut or folded."""
    found = Console()
    return found if found.is_terminal else Console(width=pipe_width)
