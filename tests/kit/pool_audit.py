"""Whether a pool has finished its jobs, and how many it lost or stored twice."""

from __future__ import annotations

from tests.kit.running_pool import RunningPool


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
