"""Keys that all have one chosen hash of the store, as somebody makes them who may only publish."""

from __future__ import annotations

import numpy as np

from rabbitray.actors.store.dedupe.keys import identities_of

_MUL = np.uint64(0xFF51AFD7ED558CCD)
_SEED = np.uint64(0x9E3779B97F4A7C15)
_ALL_ASCII = np.uint64(0x8080808080808080)
_TRIES = 1 << 16


def keys_of_one_hash(count: int, *, queue: str = "jobs", seed: int = 1) -> list[str]:
    """So many keys for `queue`: the last eight bytes of each undo what its beginning did to the hash.

    One in 256 beginnings has an end that is text. Different seeds give different keys of the same hash.
    """
    start = f"{len(queue.encode())}:{queue}:".encode()
    free = 8 + -len(start) % 8
    words = (len(start) + free) // 8
    chance, target, keys = np.random.default_rng(seed), np.uint64(0x1234_5678_9ABC_DEF0), set[str]()
    while len(keys) < count:
        grid = np.empty((_TRIES, words * 8), np.uint8)
        grid[:, : len(start)] = np.frombuffer(start, np.uint8)
        grid[:, len(start) :] = chance.integers(0x20, 0x7F, (_TRIES, free), np.uint8)
        end = _state(grid.view("<u8")) ^ target
        good = (end & _ALL_ASCII) == 0
        texts = np.hstack([grid[good, len(start) :], end[good, None].view(np.uint8)])
        keys.update(text.tobytes().decode() for text in texts)
    chosen = sorted(keys)[:count]
    assert len(np.unique(identities_of(queue, chosen).hashes)) == 1
    return chosen


def _state(words: np.ndarray[tuple[int, ...], np.dtype[np.uint64]]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """The hash before the last word, which is not in `words`."""
    state = np.full(len(words), 8 * (words.shape[1] + 1), np.uint64) * _SEED
    for column in range(words.shape[1]):
        state = (state ^ words[:, column]) * _MUL
        state ^= state >> np.uint64(32)
    return state
