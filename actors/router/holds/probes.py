"""ProbeRounds: when probes go out while an outage holds, and how many in one round. Pure.

`now` is monotonic seconds everywhere. A round of one probe, then twice as many each time as ended in the round before
without a result, with longer and longer pauses: a service that is down is asked seldom, and good messages behind
hundreds that must fail are found all the same. Defaults: 1, 2, 4 ... 100 probes after 1, 2, 4 ... 30 s; 500 failing
ones are passed after three and a half minutes.
"""

from __future__ import annotations

from rabbitray.actors.backoff import Backoff


class ProbeRounds:
    """The rounds of one hold after the other.

    `pause`: between rounds. `most`: probes in one round. `start_within_s`: after the first probe of a round no other
    starts later; with slow jobs it keeps most of the pause free of them. `half_life_s`: after so long without a hold
    the next one begins with half as many probes in its first round.
    """

    def __init__(self, pause: Backoff, *, most: int, start_within_s: float, half_life_s: float) -> None:
        self._first_pause = self._pause = pause
        self._most = most
        self._start_within_s = start_within_s
        self._half_life_s = half_life_s
        self._first_width = 1  # probes of the first round of a hold
        self._next_at = 0.0
        self._ended_at = 0.0
        self._left = 0  # probes that may still start in this round
        self._over_at: float | None = None  # no probe of this round starts from then on; None: none has started
        self._vain = 0  # probes that ended without a result since the round began
        self.width = 1  # probes of the latest round

    @property
    def pause_s(self) -> float:
        """Seconds from the latest round to the next."""
        return self._pause.delay_s()

    def begin(self, now: float) -> None:
        """A hold begins."""
        self._first_width = max(1, int(self.width * 0.5 ** ((now - self._ended_at) / self._half_life_s)))
        self._pause = self._first_pause
        self._next_at = now + self._pause.delay_s()
        self._left, self._vain, self._over_at = 0, 0, None

    def end(self, now: float) -> None:
        """The hold is over."""
        self._ended_at, self._left = now, 0

    def begin_round(self, now: float) -> int:
        """How many probes may go out from now on; 0 while the pause lasts. The next pause is twice as long."""
        if now < self._next_at:
            return 0
        self.width = min(self._most, max(self._first_width, 2 * self._vain))
        self._first_width = 1
        self._left, self._vain, self._over_at = self.width, 0, None
        self._pause = self._pause.failed()
        self._next_at = now + self._pause.delay_s()
        return self.width

    def left(self, now: float) -> int:
        """How many probes of this round may still start."""
        return 0 if self._over_at is not None and now >= self._over_at else self._left

    def is_over(self, now: float) -> bool:
        """Whether probes of this round have started and no other may."""
        return self._over_at is not None and not self.left(now)

    def started(self, now: float) -> None:
        """One probe of this round has gone out."""
        self._left -= 1
        if self._over_at is None:
            self._over_at = now + self._start_within_s

    def failed(self) -> None:
        """One probe failed as the others did."""
        self._vain += 1

    def said_nothing(self, now: float) -> None:
        """One probe ended in a way that says nothing of the service: the next round need not wait so long."""
        self._vain += 1
        self._next_at = min(self._next_at, now + self._first_pause.delay_s())
