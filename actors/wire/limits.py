"""WireLimits: how much one message may cost its reader. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLimits:
    """Bounds of one message; beyond any of them it is refused with a reason.

    `max_message_bytes`: body as received, and again after decompression. `max_records`: jobs in a packed
    message. `max_depth`: nesting of the document. `max_collection`: entries of one map or list.
    `max_elements`: entries of all maps and lists of a document together, which bounds its memory to about 64
    bytes each.
    """

    max_message_bytes: int = 16 * 1024 * 1024
    max_records: int = 1_000
    max_depth: int = 32
    max_collection: int = 100_000
    max_elements: int = 500_000


DEFAULT_LIMITS = WireLimits()
