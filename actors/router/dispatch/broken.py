"""Which jobs run elsewhere for nothing when a handler has said that its worker is broken. Pure but for the count."""

from __future__ import annotations

from typing import Final

import msgspec

from rabbitray.actors.message.reply import WORKER_BROKEN, Part
from rabbitray.actors.router.delivery import Batch

SPARED_MOST: Final = 2
"""So often a message runs elsewhere, with no attempt charged; after that what it raised is a failure like others."""


def spare_broken(batch: Batch, part: Part) -> Part:
    """The part without the failures of messages that run elsewhere, which is noted on them: they are not finished, and
    are run again with what else the worker had.
    """
    raised = {failure.position for failure in part.failures if failure.reason == WORKER_BROKEN}
    spared = {position for position in raised if batch.deliveries[position].broken < SPARED_MOST}
    for position in spared:
        batch.deliveries[position].broken += 1
    kept = [one for one in part.failures if one.position not in spared or one.reason != WORKER_BROKEN]
    return msgspec.structs.replace(
        part,
        failures=kept,
        finished=[position for position in part.finished if position not in spared],
        jobs=part.jobs - (len(part.failures) - len(kept)),
    )
