"""Whether a pool has finished its jobs, and how many it lost or stored twice."""

from __future__ import annotations

from rabbitray.actors.router.report import RouterReport
from tests.kit.running_pool import RunningPool


def assert_adds_up(report: RouterReport) -> None:
    """The sums of Counts, of a pool that lost no connection and had a message for each job; see there."""
    counts = report.counts
    assert report.reconnects == 0, "what was held was delivered again"
    assert counts.acked == counts.acked_of_one_job, counts
    assert report.received == counts.acked - report.dropped + report.given_back + report.pool.held, report


async def finished(pool: RunningPool, count: int) -> bool:
    """Whether all rows are there and nothing is on its way."""
    if not await pool.empty():
        return False
    report = await pool.service.report()
    if report is None or report.pool.held or pool.service.store.actor is None:
        return False
    table = await pool.service.store.actor.query.remote("SELECT count(DISTINCT key) AS n FROM results", 1, 5.0)
    return bool(table.to_pylist()[0]["n"] >= count)


async def lost_and_duplicated(pool: RunningPool, count: int) -> tuple[int, int]:
    """After a stop: confirmed keys without a row, and rows beyond one for each key."""
    await pool.stop()
    rows = pool.rows("SELECT key, count(*) AS n FROM results GROUP BY key")
    assert not pool.rows("SELECT key FROM dead_letters"), "a crash must not park anything"
    lost = {f"job-{n}" for n in range(count)} - {row["key"] for row in rows}
    return len(lost), sum(row["n"] - 1 for row in rows)
