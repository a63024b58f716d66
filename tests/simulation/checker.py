"""Checker: what must hold in every history, judged as it happens and when all has come to rest.

lost         a job is in no queue, has no row and is no dead letter
early        a message was acked before its row was committed or its copy was taken
duplicated   a job has two rows, or lives on as more messages than the faults account for
stale        a copy was published, or a run begun, for a delivery whose channel was known to be gone
charged      an attempt was counted for a run that did not fail by itself, or that began in an outage that was known
innocent     a job is a dead letter that should have succeeded
paused       a message that came after a pause was run
held         something waits for ever, or nothing moves although something could
memory       more is kept in hand than was delivered, or something is left over at rest
refused      the broker refused an ack
storm        connections are opened over and over without a pause
failed       a background step ended with an exception
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from rabbitray.actors.message import headers as h
from tests.simulation.messages import FAILS, Wish, Wishes, attempt

if TYPE_CHECKING:
    from tests.simulation.broker import Channel, Message

Violation = tuple[str, str]
"""The rule that was broken, and how."""

SOON_S = 0.001  # within it, nobody can have known
MAX_RETRIES = 2
MAX_CRASHES = 2


class Origin(Protocol):
    """A delivery that a copy is made of. `closed_at`: when its router heard that its channel is gone; `held`: the
    message, while the broker counts it as unacknowledged there."""

    @property
    def closed_at(self) -> float | None: ...
    @property
    def held(self) -> Message | None: ...


class Checker:
    """Hears of everything that happens. The first of `violations` is what counts."""

    def __init__(self, wishes: Wishes, clock: Callable[[], float]) -> None:
        self._wishes, self._clock = wishes, clock
        self.violations: list[Violation] = []
        self.live: Counter[str] = Counter()  # messages that are still to be worked, by job
        self.dead: Counter[str] = Counter()  # messages among the dead letters
        self.rows: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()  # messages that a router still holds although it sent their copy
        self.spare: Counter[str] = Counter()  # copies that faults account for
        self.failed_runs: Counter[str] = Counter()
        self.known_failures: Counter[str] = Counter()  # of those: begun in an outage that was known
        self.crashes: Counter[str] = Counter()  # workers that ended with it in hand, whosever fault
        self.held: dict[str, list[tuple[Message, Channel]]] = {}
        self.outage_since: float | None = None  # a router knows of it, and no job was done since
        self.received_at: dict[str, float] = {}  # when a router heard of it last
        self.paused_since: dict[int, float] = {}  # routers that are paused
        self.progress_at = clock()

    def violation(self, rule: str, text: str) -> None:
        """Notes what must not be."""
        self.violations.append((rule, f"at {self._clock() - 1_000:.3f} s: {text}"))

    def wish(self, serial: str) -> Wish:
        """What a job asks for."""
        return self._wishes.by_serial[serial]

    # -- the broker

    def entered(self, queue: str, message: Message) -> None:
        """A message is in a queue."""
        into = self.dead if queue.endswith(".dead") else self.live
        for serial in message.serials:
            into[serial] += 1
            if into is self.dead:
                self.progress_at = self._clock()
                self._deserved(serial, message)

    def delivered(self, message: Message, channel: Channel) -> None:
        """A message goes out to a channel."""
        for serial in message.serials:
            self.held.setdefault(serial, []).append((message, channel))

    def received(self, message: Message) -> None:
        """A router hears of a delivery."""
        for serial in message.serials:
            self.received_at[serial] = self._clock()

    def acked(self, message: Message, channel: Channel) -> None:
        """A message is gone for good."""
        for serial in message.serials:
            copied = self._let_go(serial, message, channel)
            self.live[serial] -= 1
            kept = self.live[serial] - self.answered[serial] + self.dead[serial]
            if not copied:
                self.progress_at = self._clock()
            if not self.rows[serial] and not copied:
                self.violation("early", f"{serial} was acked without a row or a copy")
            if not self.rows[serial] and not kept:
                self.violation("lost", f"{serial} is nowhere")
            if kept > 1 + self.spare[serial]:
                self.violation("duplicated", f"{serial} lives on as {kept} messages")
        message.answered.clear()

    def returned(self, message: Message, channel: Channel) -> None:
        """A message goes back, by its router or with a lost channel: a copy of it lives on beside it."""
        for serial in message.serials:
            self.spare[serial] += self._let_go(serial, message, channel)
        message.answered.clear()

    def _let_go(self, serial: str, message: Message, channel: Channel) -> bool:
        """A channel holds this no more; True where its copy was taken."""
        self.held[serial].remove((message, channel))
        copied = serial in message.answered
        self.answered[serial] -= copied
        return copied

    # -- copies

    def copying(self, serials: Iterable[str], origin: Origin) -> None:
        """A router publishes a copy of a delivery now."""
        if self._is_gone(origin):
            self.violation("stale", f"{', '.join(serials)} was copied although its channel was gone")

    def copied(self, copy: Message, queue: str, origin: Origin, *, sure: bool) -> None:
        """The broker took a copy; `sure`: and the router hears so, once."""
        original = origin.held if sure else None
        for serial in copy.serials:
            if original is None:
                self.spare[serial] += 1
            elif serial not in original.answered:
                original.answered.add(serial)
                self.answered[serial] += 1
            elif len(original.serials) > 1:  # a record that ran again, for its message was not finished
                self.spare[serial] += 1
            else:
                self.violation("duplicated", f"{serial} was copied twice from one delivery")
            if ".retry." in queue:
                self._charged(serial, attempt(copy.headers))

    def _charged(self, serial: str, attempts: int) -> None:
        """Runs that failed by themselves, outside of a known outage, may be charged; no more."""
        fair = self.failed_runs[serial] - self.known_failures[serial]
        if attempts > fair:
            known = " (in an outage that was known)" if self.known_failures[serial] else ""
            self.violation("charged", f"{serial} was charged {attempts} runs, {fair} were its own{known}")

    def _deserved(self, serial: str, message: Message) -> None:
        wish, reason = self.wish(serial), str(message.headers.get(h.REASON, ""))
        allowed = (
            reason.startswith("broker_")
            or wish.do in ("reject", "unreadable")
            or (wish.do in FAILS and self.failed_runs[serial] > MAX_RETRIES)
            or self.crashes[serial] >= MAX_CRASHES
        )
        if not allowed:
            self.violation("innocent", f"{serial} ({wish.do}) is a dead letter: {reason}")

    def _is_gone(self, origin: Origin) -> bool:
        """Whether its router knew, a moment ago, that it is not its own any more."""
        closed_at = origin.closed_at
        return closed_at is not None and closed_at < self._clock() - SOON_S

    # -- runs

    def dispatched(self, sent: Iterable[Origin], serials: Iterable[str], router: int) -> None:
        """A batch goes to a worker."""
        since = self.paused_since.get(router)
        if any(self._is_gone(origin) for origin in sent):
            self.violation("stale", f"{', '.join(serials)} was sent to a worker although its channel was gone")
        for serial in serials:
            if since is not None and self.received_at[serial] > since + SOON_S:
                self.violation("paused", f"{serial} came after a pause and was run")

    def failed_run(self, serial: str, began: float) -> None:
        """A run ended with an error of its own."""
        self.failed_runs[serial] += 1
        if self.wish(serial).do == "call" and self.outage_since is not None and began > self.outage_since + SOON_S:
            self.known_failures[serial] += 1

    def done_run(self) -> None:
        """A job succeeded: whoever knew of an outage may think that it is over."""
        self.outage_since = None

    def crashed(self, serials: Iterable[str]) -> None:
        """A worker ended with these in the handler."""
        self.crashes.update(serials)

    def knows_outage(self) -> None:
        """A router holds because of an outage."""
        if self.outage_since is None:
            self.outage_since = self._clock()

    # -- rows

    def committed(self, serial: str) -> None:
        """A row is in the table."""
        self.rows[serial] += 1
        self.progress_at = self._clock()
        if self.rows[serial] > 1:
            self.violation("duplicated", f"{serial} has {self.rows[serial]} rows")

    # -- the end

    @property
    def unfinished(self) -> list[str]:
        """Jobs without an outcome."""
        return [serial for serial in self._wishes.by_serial if not self.rows[serial] and not self.dead[serial]]
