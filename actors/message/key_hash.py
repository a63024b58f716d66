"""The stable 64-bit hash of texts, and the tag by which two messages under one key are told apart. Pure.

The hash is ours (multiply and xor-shift with the finaliser of MurmurHash3), because it is stored in the results file:
it may not change with a library or a process. Whole columns at once: `actors/store/dedupe/keys.py`.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

LONG: Final = 512
"""Texts above are hashed by blake2b first: padding a column of rows to one of them would cost memory."""
SEED: Final = 0x9E3779B97F4A7C15
MUL: Final = 0xFF51AFD7ED558CCD
FINAL: Final = 0xC4CEB9FE1A85EC53
_ALL_BITS: Final = (1 << 64) - 1


def pair(left: str, right: str) -> str:
    """Two texts as one: `<bytes of left>:<left>:<right>`, so no two pairs share one."""
    return f"{prefix(left)}{right}"


def prefix(left: str) -> str:
    """What `pair` begins with for every right text."""
    return f"{len(left.encode())}:{left}:"


def text_hash(text: bytes) -> int:
    """The hash of one text in UTF-8, 64 bits; 3 us for 40 bytes."""
    if len(text) > LONG:
        text = digest(text)
    value = len(text) * SEED & _ALL_BITS
    for at in range(0, len(text), 8):
        value = (value ^ int.from_bytes(text[at : at + 8], "little")) * MUL & _ALL_BITS
        value ^= value >> 32
    value = (value ^ value >> 33) * FINAL & _ALL_BITS
    return value ^ value >> 29


def digest(text: bytes) -> bytes:
    """What stands for a text above LONG."""
    return b"long:" + blake2b(text).digest()


def kind_of(message_type: str | None, user_id: str | None) -> int:
    """The tag of a message whose payload has no hash, as earlier versions wrote their rows."""
    return text_hash(pair(message_type or "", user_id or "").encode())


def is_same_message(winner: int, kind: int, payload_hash: int) -> bool:
    """Whether a message is the one that has the result of its key; `winner`: the tag of that one.

    Where that one has no hash of its payload, type and user decide.
    """
    return winner in (kind ^ payload_hash, kind)
