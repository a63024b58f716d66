"""Steadiness: how the next generation begins, by how long those before it lived. Pure.

A message that makes the broker close the connection at each delivery would have us reconnect as fast as we can, and use
up the deliveries of its neighbours where their number is limited. So the pause grows, and only one message is
delivered at a time, until that has gone well for a while.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rabbitray.actors.backoff import Backoff
from rabbitray.actors.rabbitmq.reconnect import RECONNECT

FALLS_BEFORE_NARROW = 2
"""One early end may be anything, e.g. a broker that starts again."""

LONGEST_TRIAL = 60
"""So many times as long as the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """What the generations so far say of the next one. An end is early before `steady_s` seconds of life.

    Seconds of life count from when a generation began, or got its present window.
    """

    steady_s: float
    early: int = 0  # generations in a row that ended early
    falls: int = 0  # generations in a row that the wanted window did not last in

    @property
    def narrow(self) -> bool:
        """Whether the next generation begins with a window of one message."""
        return self.falls >= FALLS_BEFORE_NARROW

    @property
    def trial_s(self) -> float:
        """How long a generation lives until its window is good; doubled with each time that the wanted one was not."""
        trials = Backoff(first_s=self.steady_s, most_s=LONGEST_TRIAL * self.steady_s)
        return replace(trials, failures=max(0, self.falls - FALLS_BEFORE_NARROW)).delay_s()

    def pause_s(self, share: float, backoff: Backoff = RECONNECT) -> float:
        """Seconds before the next generation is opened; none after one that lived. `share`: see `Backoff.delay_s`."""
        return replace(backoff, failures=self.early - 1).delay_s(share) if self.early else 0.0

    def ended(self, lived_s: float, *, narrow: bool) -> Steadiness:
        """After the end of a generation. `narrow`: it had a window of one message because of those before it."""
        early = self.early + 1 if lived_s < self.steady_s else 0
        if narrow:
            return replace(self, early=early)
        return replace(self, early=early, falls=self.falls + 1 if lived_s < self.trial_s else 0)

    def may_widen(self, lived_s: float, *, settled: bool) -> bool:
        """Whether a narrow generation gets the wanted window. `settled`: a message of it was worked and acked."""
        return settled and lived_s >= self.trial_s
