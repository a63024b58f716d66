"""Celery: early acks (its default), no results, prefetch as its guide advises for short tasks, two processes."""

from __future__ import annotations

import os
import sys

from celery import Celery

app = Celery(broker=os.environ["BENCH_URL"])
app.conf.update(
    task_default_queue=os.environ["BENCH_QUEUE"],
    task_ignore_result=True,
    worker_prefetch_multiplier=128,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
)


@app.task(name="noop")
def noop() -> None:
    """Does nothing."""


if __name__ == "__main__":
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(int(sys.argv[1])):
            noop.apply_async(producer=producer)
