"""What a worker that retires leaves in the job's log."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import ray

from rabbitray.actors.message.job import Job
from tests.kit.eventually import eventually
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import RunningPool, pool_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout("120")]

HANDLER = "tests.kit.duckdb_handler:count"


async def test_a_worker_that_retires_says_nothing_of_the_leaks_of_a_library(amqp_url: str, tmp_path: Path) -> None:
    """Its handler uses DuckDB, whose binding tells of each of its types that a process ends with."""
    loaded = settings_for(amqp_url, tmp_path, min_size=0, initial_size=1, max_size=1, downscale_to_zero_delay_s=1)
    async with pool_of(loaded, HANDLER) as pool:
        await pool.publish([Job(id=f"job-{n}", payload={"n": n}) for n in range(5)])
        report = await pool.acked(5)
        (pid,) = pool.worker_pids(report)
        await eventually(lambda: _retired(pool), within_s=40, message="it did not retire")
        await eventually(lambda: not psutil.pid_exists(pid), within_s=20, message="its process did not end")
        text = said_by(pid)
        assert "retires as a plain process" in text, "the handler's own last words are heard"
        assert "nanobind" not in text


def said_by(pid: int) -> str:
    """What a worker's process wrote to its standard error."""
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())  # the session's folder has no public name
    (errors,) = logs.glob(f"worker-*-{pid}.err")
    return errors.read_text()


async def _retired(pool: RunningPool) -> bool:
    return not (await pool.report()).workers
