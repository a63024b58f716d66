"""Which RabbitMQ private nodes run: no setting of a pool, but of those who develop, try and measure it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RABBITMQ_VARIABLE: Final = "RABBITRAY_RABBITMQ"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateNode:
    """`rabbitmq`: a series (`4.3`), a folder, or empty for the machine's own. `cache`: where fetched ones lie."""

    rabbitmq: str
    cache: Path


def private_node() -> PrivateNode:
    """Read from this process's environment."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return PrivateNode(
        rabbitmq=os.environ.get(RABBITMQ_VARIABLE, "").strip(),
        cache=(Path(cache) if cache else Path.home() / ".cache") / "rabbitray",
    )
