"""AckLedger: which delivery tags of one channel may be acknowledged, and in which frames. Pure.

Tags count up from 1 on a channel. The contiguous run of finished tags is acked with one `multiple` frame at its
highest tag that is not acked yet (an acked tag would be a 406 that closes the channel). Finished tags beyond one
that is still open are acked singly, once they have waited `single_after_s`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """One Basic.Ack frame."""

    tag: int
    multiple: bool


class AckLedger:
    """The open, finished and settled tags of one channel; its size is bounded by what is unacknowledged."""

    def __init__(self, *, single_after_s: float) -> None:
        self._single_after_s = single_after_s
        self._last = 0  # highest tag delivered
        self._low = 1  # lowest tag that is still open
        self._finished: set[int] = set()  # finished, not acked
        self._settled: set[int] = set()  # acked singly or nacked, beyond `_low`
        self._passed = 0  # highest finished tag below `_low` that no frame has acked yet, or 0
        self._waiting: deque[tuple[float, list[int]]] = deque()

    @property
    def unacked(self) -> int:
        """Delivered and not yet acknowledged or given back."""
        return self._last - self._low + 1 - len(self._settled)

    @property
    def open(self) -> int:
        """Delivered and not yet finished: work that is still to be done."""
        return self.unacked - len(self._finished)

    def delivered(self, tag: int) -> None:
        """Notes a new delivery."""
        self._last = max(self._last, tag)

    def finish(self, tags: Iterable[int], now: float) -> None:
        """The outcome of these tags is safe; a tag that is not open any more is left out."""
        finished = self.still_open(tags)
        if finished:
            self._finished.update(finished)
            self._waiting.append((now, finished))

    def still_open(self, tags: Iterable[int]) -> list[int]:
        """Those that are neither finished nor settled."""
        low, last, finished, settled = self._low, self._last, self._finished, self._settled
        return [tag for tag in tags if low <= tag <= last and tag not in finished and tag not in settled]

    def give_back(self, tags: Iterable[int]) -> list[int]:
        """Returns the tags to nack: those that are still open. They will never be acked."""
        back = self.still_open(dict.fromkeys(tags))
        self._settled.update(back)
        self._advance()
        return back

    def give_back_open(self) -> list[int]:
        """Gives back whatever is not finished; then one frame acks all that is."""
        return self.give_back(range(self._low, self._last + 1))

    def due(self, now: float) -> list[Ack]:
        """The frames to send now; what is returned counts as acked."""
        frames: list[Ack] = []
        self._advance()
        if self._passed:
            frames.append(Ack(tag=self._passed, multiple=True))
            self._passed = 0
        while self._waiting and self._waiting[0][0] <= now - self._single_after_s:
            frames += self._singles(self._waiting.popleft()[1])
        return frames

    def next_due(self) -> float | None:
        """When the oldest finished tag will have waited long enough for a single ack (monotonic s)."""
        while self._waiting and not any(tag in self._finished for tag in self._waiting[0][1]):
            self._waiting.popleft()
        return self._waiting[0][0] + self._single_after_s if self._waiting else None

    def _singles(self, tags: list[int]) -> list[Ack]:
        single = [tag for tag in tags if tag in self._finished]
        self._finished.difference_update(single)
        self._settled.update(single)
        return [Ack(tag=tag, multiple=False) for tag in single]

    def _advance(self) -> None:
        """Moves the low mark over settled and finished tags and notes the highest finished one it passed."""
        while self._low <= self._last:
            if self._low in self._finished:
                self._finished.discard(self._low)
                self._passed = self._low
            elif self._low in self._settled:
                self._settled.discard(self._low)
            else:
                break
            self._low += 1
