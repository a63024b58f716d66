"""The broker of a bench: a private node, or the one that RABBITMQ_URL names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from rabbitray.cluster.broker import PrivateBroker


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
    with PrivateBroker(configuration=_room()) as node:
        yield node


def _room() -> str:
    """A third of the machine, where that is more than a private node's own 1 GB: its alarm stops publishers."""
    return f"vm_memory_high_watermark.absolute = {max(10**9, psutil.virtual_memory().total // 3)}\n"
