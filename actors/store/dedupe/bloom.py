"""A Bloom filter cut into 64 slots that are asked all at once. Pure.

One 64-bit word for each position, one bit of it for each slot: the AND of a key's words is the set of slots
that may hold the key, so a look-up costs the same however many slots are in use (a bit-sliced signature
file). With 10 positions and 40 bits a key the chance of a false hit is (1 - e^(-10/40))^10 = 2.8e-7 for
each full slot (Bloom 1970), 1.8e-5 over all 64.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rabbitray.actors.store.dedupe.keys import U64

SLOTS = 64
PROBES = 10
BITS_A_KEY = 40
_LOW = np.uint64(0xFFFFFFFF)
_HALF, _ODD = np.uint64(32), np.uint64(1)


class SlicedBloom:
    """`slot_keys`: how many keys one slot is sized for. Memory: 8 * 40 * `slot_keys` bytes, fixed."""

    def __init__(self, slot_keys: int) -> None:
        self.plane: U64 = np.zeros(max(64, slot_keys * BITS_A_KEY), np.uint64)

    def add(self, hashes: U64, slot: int) -> None:
        """Put keys into one slot."""
        bit = np.uint64(1 << slot)
        for probe in range(PROBES):
            self.plane[self._positions(hashes, probe)] |= bit

    def slots(self, hashes: U64) -> tuple[npt.NDArray[np.int64], U64]:
        """Rows that may be known, and for each the set of slots as bits; every other row is surely new."""
        masks = self.plane[self._positions(hashes, 0)]
        rows = np.flatnonzero(masks)
        masks = masks[rows]
        for probe in range(1, PROBES):
            if not len(rows):
                break
            masks = masks & self.plane[self._positions(hashes[rows], probe)]
            open_ = masks != 0
            rows, masks = rows[open_], masks[open_]
        return rows, masks

    def _positions(self, hashes: U64, probe: int) -> U64:
        step = (hashes >> _HALF) | _ODD
        return ((hashes & _LOW) + np.uint64(probe) * step) % np.uint64(len(self.plane))
