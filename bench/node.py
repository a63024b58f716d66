"""The broker of a bench: a private node, or the one that RABBITMQ_URL names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from cluster.broker import PrivateBroker

# A node of a bench may fill a third of the machine: the alarm of a small node stops publishers for seconds.
_ROOM = f"vm_memory_high_watermark.absolute = {psutil.virtual_memory().total // 3}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenBroker:
    """A broker that somebody else runs: an address, and nothing to stop or kill."""

    url: str


@contextmanager
def private_node() -> Iterator[PrivateBroker | GivenBroker]:
    """A running broker with at least `.url`; a private node ends with the block, also after Ctrl-C."""
    given = os.environ.get("RABBITMQ_URL", "")
    if given:
        yield GivenBroker(url=given)
        return
    with PrivateBroker(configuration=_ROOM) as node:
        yield node
