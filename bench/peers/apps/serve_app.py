"""Ray Serve's asynchronous inference: two replicas, Celery's long prefetch; with a number it publishes so many."""

from __future__ import annotations

import os
import sys

import ray
from ray import serve
from ray.serve.schema import CeleryAdapterConfig, TaskProcessorConfig
from ray.serve.task_consumer import instantiate_adapter_from_config, task_consumer, task_handler

config = TaskProcessorConfig(
    queue_name=os.environ["BENCH_QUEUE"],
    adapter_config=CeleryAdapterConfig(
        broker_url=os.environ["BENCH_URL"],
        backend_url="rpc://",
        app_custom_config={"worker_prefetch_multiplier": 128},
        task_custom_config={"ignore_result": True},
    ),
)


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 1})
@task_consumer(task_processor_config=config)
class Noop:
    """Takes tasks and does nothing."""

    @task_handler(name="noop")
    def noop(self) -> None:
        """Does nothing."""


def publish(count: int) -> None:
    """One by one, as its adapter offers it."""
    adapter = instantiate_adapter_from_config(config)
    for _ in range(count):
        adapter.enqueue_task_sync("noop", ignore_result=True)


def work() -> None:
    """Until standard input ends."""
    ray.init(address="local", num_cpus=4, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    serve.start(http_options={"location": "NoServer"})
    serve.run(Noop.bind(), route_prefix=None)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    publish(int(sys.argv[1])) if len(sys.argv) > 1 else work()
