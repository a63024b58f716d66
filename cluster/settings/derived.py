"""What settings are by default where it follows from others. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from rabbitray.actors.rabbitmq import addresses

DERIVED: Final = {
    "pool": "queue",
    "initial_size": "min_size",
    "pending_limit_s": "can_grow_nodes",
    "start_timeout_s": "pending_limit_s",
}
"""Setting -> the one from which its default follows."""

PENDING_LIMIT_S: Final = 120.0
NODE_LIMIT_S: Final = 600.0
START_AFTER_PENDING_S: Final = 180.0


def derived(given: Mapping[str, Any]) -> dict[str, Any]:  # Any: values as they come in, which nobody has checked
    """What is given, and what follows from it for settings that are not. What is no value is left to its own field."""
    pending_s = _number(
        given.get("pending_limit_s"), NODE_LIMIT_S if _yes(given.get("can_grow_nodes")) else PENDING_LIMIT_S
    )
    found = {
        "initial_size": max(1, _whole(given.get("min_size"))),
        "pending_limit_s": pending_s,
        "start_timeout_s": pending_s + START_AFTER_PENDING_S,
        **given,
    }
    found["pool"] = given.get("pool") or safe_name(str(given.get("queue", "jobs")))
    if "rabbitmq_url" in given and _yes(given.get("insecure_skip_verify")):
        found["rabbitmq_url"] = addresses.without_checks(addresses.of(given["rabbitmq_url"]))
    return found


def _whole(value: object) -> int:
    """A number as it may come in; what is none is refused by its own field."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() else 0


def _number(value: object, otherwise: float) -> float:
    try:
        return float(str(value))
    except ValueError:
        return otherwise


def _yes(value: object) -> bool:
    return str(value).strip().lower() in ("true", "t", "yes", "y", "on", "1")


def safe_name(queue: str) -> str:
    """A pool name made of a queue name: other characters become `-`, at most 63."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", queue)[:63].lstrip("_.-") or "pool"
