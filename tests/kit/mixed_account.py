"""What became of the mixed messages, counted by id: lost, doubled, changed. Pure, over what was sent and stored."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.kit.mixed_handler import Run, body_hash, dies, number_of, retries_of
from tests.kit.mixed_sent import Sent


@dataclass(frozen=True, kw_only=True)
class Account:
    """`runs`: of every message; `results`: what the handler returned, of each row; `letters`: bodies of the dead.

    `started_ms`: Unix ms, before the first message was sent.
    """

    sent: Mapping[str, Sent]
    runs: Iterable[Run]
    results: Iterable[Mapping[str, str]]
    letters: Iterable[bytes]
    started_ms: int

    @functools.cached_property
    def dead(self) -> set[str]:
        """The ids of those that were to be dead letters once."""
        return {name for name in self.sent if dies(number_of(name))}

    @functools.cached_property
    def runs_by_id(self) -> dict[str, list[Run]]:
        """The runs of each message, in order."""
        found = defaultdict(list)
        for run in sorted(self.runs, key=lambda run: run.at_ms):
            found[run.id].append(run)
        return dict(found)

    @functools.cached_property
    def rows(self) -> dict[str, list[dict[str, str]]]:
        """The records in the results of each message."""
        found = defaultdict(list)
        for result in self.results:
            found[result["id"]].append({name: value for name, value in result.items() if name != "id"})
        return dict(found)

    @property
    def lost(self) -> list[str]:
        """Those that have no row."""
        return sorted(set(self.sent) - set(self.rows))

    @property
    def doubled(self) -> list[str]:
        """Those that have more than one, and rows of none."""
        return sorted(name for name, found in self.rows.items() if len(found) > 1 or name not in self.sent)

    @functools.cached_property
    def changed(self) -> dict[str, list[str]]:
        """What is not as it was sent, in any run or result, with both values."""
        return {name: found for name in self.runs_by_id if (found := self._changes(name))}

    @property
    def letters_changed(self) -> int:
        """How many bodies of dead letters are not those of the dead, each once."""
        expected = Counter(self.sent[name].record["body"] for name in self.dead)
        found = Counter(map(body_hash, self.letters))
        return (expected - found).total() + (found - expected).total()

    @property
    def run_otherwise(self) -> dict[str, list[int]]:
        """Attempts that are not those of the rule: once more for each retry, and from 0 again after a replay."""
        attempts = {name: [run.attempt for run in runs] for name, runs in self.runs_by_id.items()}
        return {name: found for name, found in attempts.items() if found != self._expected(name)}

    def fates(self) -> dict[str, Counter[str]]:
        """How many messages of each producer went which way."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for name, runs in self.runs_by_id.items():
            way = "replayed" if name in self.dead else "done at once" if len(runs) == 1 else "retried"
            found[way][name.rpartition("-")[0]] += 1
        return dict(found)

    def told(self) -> str:
        """The figures, for people."""
        fields = Counter(one.partition(":")[0] for found in self.changed.values() for one in set(found))
        lines = [f"{way}: {count.total()} {dict(sorted(count.items()))}" for way, count in sorted(self.fates().items())]
        runs = sum(map(len, self.runs_by_id.values()))
        counts = f"{len(self.lost)} lost, {len(self.doubled)} doubled, {len(self.changed)} changed {dict(fields)}"
        return "\n".join([*lines, f"{len(self.sent)} messages in {runs} runs: {counts}"])

    def _expected(self, name: str) -> list[int]:
        return [*([0] if name in self.dead else []), *range(retries_of(number_of(name)) + 1)]

    def _changes(self, name: str) -> list[str]:
        sent, runs = self.sent[name], self.runs_by_id[name]
        found = [one for run in runs for one in changes(run.record, sent, copy=run is not runs[0])]
        found += [one for row in self.rows.get(name, []) for one in changes(row, sent, copy=len(runs) > 1)]
        return found + self._expiry_changes(sent, runs)

    def _expiry_changes(self, sent: Sent, runs: list[Run]) -> list[str]:
        """It expires when it would have, counted from its first delivery."""
        told = {run.expires_ms for run in runs}
        if sent.expiration_ms is None:
            return [f"expires: never -> {told}"] * (told != {None})
        until = told.pop() if len(told) == 1 else None
        in_time = until is not None and self.started_ms <= until - sent.expiration_ms <= runs[0].at_ms
        return [] if in_time else [f"expires: {sent.expiration_ms} ms after {self.started_ms} -> {told or until}"]


def changes(found: Mapping[str, str], sent: Sent, *, copy: bool) -> list[str]:
    """The properties that are not as they were sent, with both values.

    A copy of a message without an id has one of ours, as `Message` says.
    """
    names = set(found) | set(sent.record)
    if copy and sent.record["message_id"] == "null":
        names.remove("message_id")
    return [
        f"{name}: {sent.record.get(name)} -> {found.get(name)}"
        for name in sorted(names)
        if found.get(name) != sent.record.get(name)
    ]
