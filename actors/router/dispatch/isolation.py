"""What becomes of a message in whose run alone a worker was lost. Pure.

A message is alone once it runs on the quarantine's worker: that worker has nothing else in hand, so whoever ran there
when it ended is known.
"""

from __future__ import annotations

from dataclasses import dataclass

from rabbitray.actors.router.dispatch.member import WorkerLostError


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAgain:
    """It runs once more, alone; `crashes`: how many of its workers have ended so by now."""

    crashes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """It goes to the dead letters: it has ended its worker alone `crashes` times."""

    crashes: int


Step = RunAgain | Park


def next_step(loss: WorkerLostError, *, crashes: int, max_crashes: int) -> Step:
    """What to do with a message whose worker was lost while it ran alone. `crashes`: how often before."""
    if not loss.may_be_poison:  # the node went away, or we ended the worker: that says nothing of the message
        return RunAgain(crashes=crashes)
    if crashes + 1 >= max_crashes:
        return Park(crashes=crashes + 1)
    return RunAgain(crashes=crashes + 1)
