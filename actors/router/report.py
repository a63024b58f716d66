"""What `rabbitray status` shows of each worker."""

from __future__ import annotations

from rabbitray.actors.remote.boot import Rows
from rabbitray.actors.router.dispatch.member import Member

USAGE_FRESH_S = 20.0
"""Longer than a worker with a slow job is silent (`SIGN_OF_LIFE_MOST_S`): an idle one tells nothing."""


def worker_row(member: Member[Rows], now: float) -> dict[str, object]:
    """One worker for people. CPU and memory are what it told last; an old CPU figure says nothing of now: None."""
    usage, fresh = member.usage, now - member.used_at < USAGE_FRESH_S
    return {
        "name": member.name,
        "state": member.state,
        "pid": member.info.pid if member.info else None,
        "batches": len(member.batches),
        "jobs": member.jobs,
        "busy_s": round(member.busy_s, 3),
        "cpu_percent": usage.cpu_percent if usage and fresh else None,
        "rss_bytes": usage.rss_bytes if usage else None,
    }
