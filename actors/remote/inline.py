"""How much one of Ray's calls carries by itself: what is larger goes through the object store of its node.

The way through the store takes some 2.5 ms of CPU, a third of it in the raylet. Within the call bytes are copied more
often, so that from some MiB on it takes longer (docs/decisions.md has the figures). Each process reads its bound from
its environment when it starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

INLINE_BYTES: Final = 4 * 1024 * 1024
"""Batches of messages of up to some 10 KiB weigh less."""

RAYS_BYTES: Final = 100 * 1024
"""Ray's own bound."""

_VARIABLE: Final = "RAY_max_direct_call_object_size"
INLINE_VARIABLES: Final = {_VARIABLE: str(INLINE_BYTES)}
"""What is to be in the environment of a Ray, or of a job.

Not of single actors: their children inherit it, and Ray keeps no process ready for an environment of their own, so that
each worker of a pool would start 1.3 s later.
"""

_ENVELOPE: Final = 4 * 1024  # what Ray adds to an argument


def goes_inline(size: int) -> bool:
    """Whether arguments of so many bytes go within a call of this process; others may wait in it for room."""
    return size + _ENVELOPE <= _bytes(os.environ)


def inline_environment() -> dict[str, str]:
    """What is to be in the environment of a Ray that this process starts; nothing where somebody has chosen."""
    return {} if _VARIABLE in os.environ else dict(INLINE_VARIABLES)


def _bytes(environment: Mapping[str, str]) -> int:
    told = environment.get(_VARIABLE, "")
    return int(told) if told.isdecimal() else RAYS_BYTES
