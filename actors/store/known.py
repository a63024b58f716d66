"""Which keys have their result: asked by workers before they run jobs, while commits go on on another thread.

The newest rows and the filter are looked at where the question came in: microseconds for a batch of new keys. What the
filter may know is searched in the sealed segments, on a thread that no commit and no query holds up: their pages may
have to be read from disk. Exact, as at the commit: texts are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np

from rabbitray.actors.store.dedupe.index import Dedupe
from rabbitray.actors.store.dedupe.keys import hashes_of, identities_of_texts, texts_of

MANY: Final = 2_000
"""Keys from which on all of it is done on the thread: an event loop would stand still for a millisecond and more."""


class OnThread(Protocol):
    """Runs blocking work on a thread."""

    async def __call__(self, work: Callable[[], dict[int, int]]) -> dict[int, int]: ...


async def winners_of(dedupe: Dedupe, queue: str, keys: Sequence[str], on_thread: OnThread) -> dict[int, int]:
    """The tag of the row that has it, for each of `keys` that has its result, by index."""
    if len(keys) >= MANY:
        return await on_thread(lambda: dedupe.winners(identities_of_texts(texts_of(queue, keys))))
    texts = texts_of(queue, keys)
    found = dedupe.newest_winners(texts)
    if not dedupe.sealed or len(found) == len(texts):
        return found
    rows, masks = dedupe.may_be_sealed(hashes_of(texts))
    if len(rows):
        ids = identities_of_texts([texts[row] for row in rows])
        sealed = await on_thread(lambda: dedupe.find(ids, np.arange(len(rows)), masks))
        found.update((int(rows[at]), tag) for at, tag in sealed.items())
    return found
