"""What the reaction bench says about its square wave: the log of decisions and the audit. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rabbitray.actors.router.report import RouterReport
from rabbitray.autoscale.loop import DecisionRecord


def decision_lines(records: Sequence[DecisionRecord], began: float) -> list[str]:
    """A line for each size decided since `began` (Unix seconds, as a record's `at`), oldest first.

    For example `+12.3 s  decided 1 -> 4, in effect after 1.4 s: want 30: ...`; the time until it was in effect is left
    out where the next decision came first.
    """
    return [_line(record, records[number + 1 :], began) for number, record in _decided(records, began)]


def _decided(records: Sequence[DecisionRecord], began: float) -> list[tuple[int, DecisionRecord]]:
    return [(number, one) for number, one in enumerate(records) if one.event == "decided" and one.at >= began]


def _line(record: DecisionRecord, later: Sequence[DecisionRecord], began: float) -> str:
    reached_at = _in_effect_at(record.wanted, later)
    until = "" if reached_at is None else f", in effect after {reached_at - record.at:.1f} s"
    return f"+{record.at - began:.1f} s  decided {record.had} -> {record.wanted}{until}: {record.reason}"


def _in_effect_at(wanted: int, later: Sequence[DecisionRecord]) -> float | None:
    """When this size was reached, if that was before another one was decided; Unix seconds."""
    for record in later:
        if record.wanted != wanted:
            return None
        if record.event == "in_effect":
            return record.at
    return None


def audit(stored: Mapping[str, Any], report: RouterReport, sent: int) -> dict[str, int]:  # Any: SQL values
    """What went wrong with `sent` jobs, all 0 if nothing did.

    `stored`: `n` rows, `jobs` distinct keys and `charged` attempts beyond the first (None without rows), of the
    results file. `report`: the router's last. The store keeps one row for a key, so that a job worked twice shows as
    one of the report's `duplicates`.
    """
    return {
        "lost": sent - stored["jobs"],
        "duplicated": stored["n"] - stored["jobs"] + report.counts.duplicates,
        "attempts_charged": int(stored["charged"] or 0) + report.counts.retried + report.counts.dead,
        "busy_killed": report.replaced,
    }
