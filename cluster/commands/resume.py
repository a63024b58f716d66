"""`rabbitray resume`: end a pause, or the wait for a queue that vanished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from rabbitray.actors.router.holds.vanished import VanishedQueue
from rabbitray.cluster.cli.options import REACH, with_settings
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.operate.running_pool import running
from rabbitray.cluster.settings import Loaded


@click.command("resume")
@click.option(
    "--vanished", is_flag=True,
    help="Instead of a pause: confirm which queues vanished, with what they held. They are declared anew, empty.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_settings(*REACH)
def command(loaded: Loaded, vanished: bool, as_json: bool) -> None:
    """End a pause: the pool consumes again. Other holds (store, outage) end by themselves.

    A queue of ours that is gone stays in `rabbitray status` until --vanished confirms it, and the pool waits for one
    that had messages. --vanished leaves a pause as it is.
    """
    confirmed: list[VanishedQueue] = []
    with running(loaded.settings) as pool:
        if vanished:
            confirmed = pool.ask("router", "confirm_vanished")
        else:
            pool.ask("router", "resume")
        holds = pool.report().holds
    if as_json:
        told = {"confirmed": confirmed} if vanished else {}
        tell_json({"pool": loaded.settings.pool, "holds": dict(holds)} | told)
        return
    tell(*_confirmed(confirmed) if vanished else (), _goes_on(loaded.settings.pool, holds, paused=not vanished))


def _confirmed(queues: Sequence[VanishedQueue]) -> list[str]:
    return [f"confirmed: {queue}" for queue in queues] or ["no queue has vanished"]


def _goes_on(pool: str, holds: Mapping[str, str], *, paused: bool) -> str:
    if not holds:
        return f"pool {pool!r} consumes again" if paused else f"pool {pool!r} consumes"
    still = "; ".join(f"{name}: {reason}" for name, reason in holds.items())
    return f"the pause is over; still held: {still}" if paused else f"still held: {still}"
