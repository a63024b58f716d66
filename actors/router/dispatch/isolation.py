"""What becomes of a message in whose run alone a worker was lost. Pure.

A message is alone once it runs on the quarantine's worker: that worker has nothing else in hand, so whoever ran there
when it ended is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from rabbitray.actors.router.dispatch.member import WorkerLostError

SPARED_MOST: Final = 5
"""So often a message that ran alone on a full node is innocent; after that each such death of its worker counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoneDeaths:
    """Deaths of workers that had one message in hand: those that count, and those of which it was innocent so far."""

    crashes: int = 0
    spared: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAgain:
    """It runs once more, alone."""

    deaths: LoneDeaths


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """It goes to the dead letters: enough of its deaths count."""

    deaths: LoneDeaths


Step = RunAgain | Park


def next_step(loss: WorkerLostError, before: LoneDeaths, *, max_crashes: int) -> Step:
    """What to do with a message whose worker was lost while it ran alone."""
    if not loss.may_be_poison:  # the node went away, or we ended the worker: that says nothing of the message
        return RunAgain(deaths=before)
    if loss.merely_chosen and before.spared < SPARED_MOST:
        return RunAgain(deaths=replace(before, spared=before.spared + 1))
    deaths = replace(before, crashes=before.crashes + 1)
    return Park(deaths=deaths) if deaths.crashes >= max_crashes else RunAgain(deaths=deaths)
