"""Exact dedupe at a cost that does not grow with the table.

Rows are numbered by `seq`. The newest rows are in a dict. Each full range of `segment_rows` is sealed: its
identities go, sorted, into a side file, and into one slot of the filter. A key that the filter does not
know is surely new; for a key that it may know, only the named segments are searched, by hash and then by
text. (Looking the hits up in DuckDB instead was measured: 5-8 ms for 50 of them in a table of 5 M rows.)

Memory: 320 bytes * `segment_rows` for the filter (50 MB at a capacity of 10 M) and about 150 bytes *
`segment_rows` for the newest rows. Beyond the capacity slots are used again: nothing is forgotten and
memory stays, only more segments must be searched for a key.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rabbitray.actors.store.dedupe.bloom import SLOTS, SlicedBloom
from rabbitray.actors.store.dedupe.keys import U64, Identities
from rabbitray.actors.store.dedupe.segment import Segment, read_segment, seal, write_segment

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """Rows of a batch, told apart: indices of fresh rows and of duplicates; the tag of the row that won for each
    duplicate.
    """

    fresh: npt.NDArray[np.int64]
    duplicates: tuple[int, ...] = ()
    winners: tuple[int, ...] = ()


class Dedupe:
    """Knows the (queue, key) of each row in `results`. One thread sorts and adds.

    Others may look keys up meanwhile by `newest_winners`, `may_be_sealed` and `find`, in this order: a row is in a
    sealed segment and in the filter before the newest rows forget it.

    `directory` None: sealed segments stay in memory (tests). Never raises for a full disk: a segment that
    cannot be written stays in memory, and is written when a later one can be.
    """

    def __init__(self, *, capacity: int, store_id: str, directory: Path | None) -> None:
        self.segment_rows = max(1, -(-capacity // SLOTS))
        self.capacity = self.segment_rows * SLOTS
        self.bloom = SlicedBloom(self.segment_rows)
        self.sealed: list[Segment] = []
        self._store_id = store_id
        self._directory = directory
        self._unsaved: list[Segment] = []
        self._tail: list[Identities] = []
        self._tail_rows = 0
        self._newest: dict[str | None, int] = {}

    @property
    def next_seq(self) -> int:
        """The sequence number of the next row."""
        return len(self.sealed) * self.segment_rows + self._tail_rows

    def path_of(self, index: int) -> Path | None:
        """Where segment `index` is kept."""
        return self._directory / f"segment-{index:06d}.arrow" if self._directory else None

    def sort(self, ids: Identities) -> Sorted:
        """Which rows are new; of equal keys in the batch the first wins."""
        texts: list[str | None] = ids.texts.to_pylist()
        winners = self._sealed_winners(ids)
        places = dict(zip(texts, range(len(texts)), strict=True))
        if len(places) + max(0, ids.texts.null_count - 1) == len(texts):
            winners.update((places[text], self._newest[text]) for text in self._newest.keys() & places.keys())
        else:
            self._add_each(texts, ids, winners)
        duplicates = sorted(winners)
        fresh = np.delete(np.arange(len(texts)), duplicates) if duplicates else np.arange(len(texts))
        return Sorted(fresh=fresh, duplicates=tuple(duplicates), winners=tuple(winners[row] for row in duplicates))

    def known(self, ids: Identities) -> list[bool]:
        """For each identity, whether a row with it exists."""
        winners = self.winners(ids)
        return [row in winners for row in range(len(ids.hashes))]

    def winners(self, ids: Identities) -> dict[int, int]:
        """The tag of the row that has it, for each identity that one has, by index."""
        return self.newest_winners(ids.texts.to_pylist()) | self._sealed_winners(ids)

    def newest_winners(self, texts: Sequence[str | None]) -> dict[int, int]:
        """As `winners`, among the newest rows alone."""
        newest = self._newest
        return {row: tag for row, text in enumerate(texts) if (tag := newest.get(text)) is not None}

    def may_be_sealed(self, hashes: U64) -> tuple[npt.NDArray[np.int64], U64]:
        """What `find` is to look for: indices, and the slots of the filter for each; all others are in no segment."""
        return self.bloom.slots(hashes)

    def find(self, ids: Identities, rows: npt.NDArray[np.int64], masks: U64) -> dict[int, int]:
        """As `winners`, among the sealed rows alone."""
        hits: dict[int, int] = {}
        for slot in _slots_in(masks):
            named = rows[(masks >> np.uint64(slot)) & np.uint64(1) == 1]
            for segment in self.sealed[slot::SLOTS]:
                hits.update(segment.find(ids, named))
        return hits

    def add(self, ids: Identities) -> None:
        """Remember rows that were committed, in the order of their sequence numbers."""
        self._tail.append(ids)
        self._tail_rows += len(ids.hashes)
        self._remember(ids)
        while self._tail_rows >= self.segment_rows:
            self._seal_oldest()

    def adopt(self, segment: Segment, *, saved: bool, in_filter: bool) -> None:
        """Take over a sealed segment, the next in order."""
        self._take(segment, in_filter=in_filter)
        if not saved:
            self._keep(segment)

    def _take(self, segment: Segment, *, in_filter: bool) -> None:
        if not in_filter:
            self.bloom.add(segment.hashes, len(self.sealed) % SLOTS)
        self.sealed.append(segment)

    def _keep(self, segment: Segment) -> None:
        self._unsaved.append(segment)
        self._save()

    def _remember(self, ids: Identities) -> None:
        _put(self._newest, ids)

    def _sealed_winners(self, ids: Identities) -> dict[int, int]:
        rows, masks = self.may_be_sealed(ids.hashes)
        if not len(rows):
            return {}
        valid = np.asarray(ids.texts.is_valid())[rows]
        return self.find(ids, rows[valid], masks[valid])

    def _add_each(self, texts: list[str | None], ids: Identities, winners: dict[int, int]) -> None:
        """Add to `winners` what the newest rows and earlier rows of this batch win."""
        batch: dict[str, int] = {}
        for row, text in enumerate(texts):
            if text is None or row in winners:
                continue
            winner = self._newest.get(text, batch.get(text))
            if winner is not None:
                winners[row] = winner
            else:
                batch[text] = int(ids.tags[row])

    def _seal_oldest(self) -> None:
        whole = _concat(self._tail)
        split = np.arange(len(whole.hashes))
        first = len(self.sealed) * self.segment_rows
        segment = seal(self._store_id, first, self.segment_rows, whole.take(split[: self.segment_rows]))
        rest = whole.take(split[self.segment_rows :])
        newest: dict[str | None, int] = {}
        _put(newest, rest)
        self._take(segment, in_filter=False)  # first: who looks up from another thread finds each row in one of the two
        self._tail, self._tail_rows, self._newest = [rest], len(rest.hashes), newest
        if self._directory is not None:
            self._keep(segment)

    def _save(self) -> None:
        while self._unsaved:
            segment = self._unsaved[0]
            path = self.path_of(segment.head.first // self.segment_rows)
            try:
                if path is not None:
                    write_segment(segment, path)
                    index = segment.head.first // self.segment_rows
                    self.sealed[index] = read_segment(path) or segment
            except OSError as error:
                log.warning("segment at %d stays in memory: %s", segment.head.first, str(error))
                return
            self._unsaved.pop(0)


def _put(newest: dict[str | None, int], ids: Identities) -> None:
    newest.update(zip(ids.texts.to_pylist(), ids.tags.tolist(), strict=True))
    newest.pop(None, None)


def _slots_in(masks: npt.NDArray[np.uint64]) -> list[int]:
    union = int(np.bitwise_or.reduce(masks)) if len(masks) else 0
    return [slot for slot in range(SLOTS) if union >> slot & 1]


def _concat(parts: list[Identities]) -> Identities:
    return Identities(
        texts=pa.concat_arrays([part.texts for part in parts]),
        hashes=np.concatenate([part.hashes for part in parts]),
        tags=np.concatenate([part.tags for part in parts]),
    )
