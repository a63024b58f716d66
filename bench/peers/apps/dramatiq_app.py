"""Dramatiq: defaults, two processes."""

from __future__ import annotations

import os
import sys

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

broker = RabbitmqBroker(url=os.environ["BENCH_URL"])
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=os.environ["BENCH_QUEUE"], actor_name="noop")
def noop() -> None:
    """Does nothing."""


if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        noop.send()
