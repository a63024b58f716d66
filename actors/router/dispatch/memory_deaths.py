"""A worker that Ray's memory monitor ended: how much it held, and whether it was merely chosen. Pure.

When a node is full Ray (2.60) ends its newest workers until there is room, several at once, whoever took the memory.
"""

from __future__ import annotations

from typing import Final

from rabbitray.actors.remote.compat.texts import GB, ended_for_memory, node_memory_gb
from rabbitray.actors.router.dispatch.member import WorkerLostError

GROWN_SHARE: Final = 0.02
"""A worker that has grown by less than this share of its node's memory since its start has not filled the node."""


def memory_death(text: str, pid: int, *, at_start: int, last: int) -> WorkerLostError:
    """The loss of the worker `pid` of which Ray says `text`; bytes that it held at its start and when it last told.

    It was merely chosen where Ray ended a larger one beside it, or where it has hardly grown. Where Ray does not say
    how large it was, it was as large as it last told.
    """
    ended = ended_for_memory(text)
    held = ended.get(pid, last)
    used, limit = node_memory_gb(text)
    grown = held - at_start
    return WorkerLostError(
        "out_of_memory",
        f"needs more than {held / GB:.2f} GB, which its worker held when Ray ended it to free memory"
        f" (its node used {used} of {limit} GB)",
        may_be_poison=True,
        merely_chosen=held < max(ended.values(), default=0) or grown < GROWN_SHARE * float(limit) * GB,
    )
