"""`rabbitray scale`: a fixed number of workers, or the autoscaler's."""

from __future__ import annotations

import click

from rabbitray.cluster.cli.options import REACH, with_settings
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.operate.running_pool import running
from rabbitray.cluster.settings import Loaded

MOST = 10_000


class Size(click.ParamType[int | None]):
    """A number of workers, or `auto`."""

    name = "N|auto"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """None for `auto`."""
        text = str(value).strip().lower()
        if text == "auto":
            return None
        if not text.isascii() or not text.isdecimal() or int(text) > MOST:
            self.fail(f"{str(value)[:40]!r} is neither a number of workers from 0 to {MOST:,} nor auto", param, ctx)
        return int(text)


@click.command("scale")
@click.argument("size", type=Size())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_settings(*REACH)
def command(loaded: Loaded, size: int | None, as_json: bool) -> None:
    """Hold the pool at N workers, or give it back to the autoscaler.

    \b
    rabbitray scale 4
    rabbitray scale auto

    A fixed size survives a restart of the pool; it keeps within the pool's min_size and max_size. Workers that leave
    finish what they have first.
    """
    with running(loaded.settings) as pool:
        held: int | None = pool.ask("autoscaler", "fix", size)
    if as_json:
        tell_json({"pool": loaded.settings.pool, "fixed": held})
    else:
        tell(f"pool {loaded.settings.pool!r} {held_text(size, held)}")


def held_text(asked: int | None, held: int | None) -> str:
    """What became of a size that was asked for; None is `auto`."""
    if held is None:
        return "is sized by the autoscaler"
    bound = "" if held == asked else f", the nearest to {asked} that its min_size and max_size allow"
    return f"is held at {held} {'worker' if held == 1 else 'workers'}{bound}"
