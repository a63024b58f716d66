"""A worker that Ray's memory monitor ended: how much it held, and whether it was merely chosen. Pure.

When a node is full Ray (2.60) ends its newest workers until there is room, several at once, whoever took the memory.
"""

from __future__ import annotations

import re
from typing import Final

from rabbitray.actors.router.dispatch.member import WorkerLostError

GB: Final = 2**30  # as Ray's text has it
GROWN_SHARE: Final = 0.02
"""A worker that has grown by less than this share of its node's memory since its start has not filled the node."""

_ENDED: Final = re.compile(r"Selected to kill: .{0,1000}?pid=(\d+), actual memory used=([\d.]+)GB")
_NODE: Final = re.compile(r"Memory on the node \(.{0,1000}?\) was ([\d.]+)GB used / ([\d.]+)GB limit")


def memory_death(text: str, pid: int, *, at_start: int, last: int) -> WorkerLostError:
    """The loss of the worker `pid` of which Ray says `text`; bytes that it held at its start and when it last told.

    It was merely chosen where Ray ended a larger one beside it, or where it has hardly grown. Where Ray does not say
    how large it was, it was as large as it last told.
    """
    ended = {int(number): round(float(gb) * GB) for number, gb in _ENDED.findall(text)}
    held = ended.get(pid, last)
    used, limit = found.groups() if (found := _NODE.search(text)) else ("?", "0")
    grown = held - at_start
    return WorkerLostError(
        "out_of_memory",
        f"needs more than {held / GB:.2f} GB, which its worker held when Ray ended it to free memory"
        f" (its node used {used} of {limit} GB)",
        may_be_poison=True,
        merely_chosen=held < max(ended.values(), default=0) or grown < GROWN_SHARE * float(limit) * GB,
    )
