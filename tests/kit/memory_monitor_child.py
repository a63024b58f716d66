"""A pool on a Ray of its own, in a process of its own: Ray reads from its environment when its memory monitor kills.

`python -m tests.kit.memory_monitor_child AMQP_URL FOLDER JOBS`: publishes half of the jobs, waits until each of the
pool's actors was started again, publishes the rest, waits until nothing is left, and writes what was restarted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import ray

from rabbitray.actors.message.job import Job
from tests.kit.eventually import eventually
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import RunningPool, pool_of


async def work(amqp_url: str, folder: Path, count: int) -> dict[str, int]:
    jobs = [Job(id=f"job-{n}", payload={}) for n in range(count)]
    async with pool_of(settings_for(amqp_url, folder, batch_size=10)) as pool:
        service = pool.service
        actors = (service.store, service.router, service.autoscaler)
        await pool.publish(jobs[: count // 2])
        await eventually(lambda: all(actor.restarts for actor in actors), within_s=200, message="no restart")
        await pool.publish(jobs[count // 2 :])
        await eventually(lambda: _quiet(pool), within_s=300, message="messages are left")
        return {actor.name.rpartition("-")[2]: actor.restarts for actor in actors}


async def _quiet(pool: RunningPool) -> bool:
    report = await pool.service.report()
    return report is not None and not report.pool.held and await pool.empty()


if __name__ == "__main__":
    url, where, jobs_in_all = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="rr-", ignore_cleanup_errors=True) as temporary:
        ray.init(
            address="local", num_cpus=8, include_dashboard=False, namespace="rabbitray", log_to_driver=False,
            _temp_dir=temporary,
        )  # fmt: skip
        try:
            sys.stdout.write(json.dumps(asyncio.run(work(url, Path(where), int(jobs_in_all)))) + "\n")
        finally:
            ray.shutdown()
