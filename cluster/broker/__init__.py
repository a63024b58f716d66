"""A private RabbitMQ node for demo, tests and benches: unprivileged, own directory, ports, cookie and epmd.

node      the handle: a node that lives as long as this process at most
detached  a node that stays after the command that started it
guardian  PROCESS guardian: owns the node's processes, so that none outlives who asked for it
layout    what a node looks like on disk
programs  which RabbitMQ it runs
contact   its management API, `rabbitmqctl`, whether it is ready
"""

from __future__ import annotations

from rabbitray.cluster.broker.detached import start_detached, stop_detached
from rabbitray.cluster.broker.node import PrivateBroker

__all__ = ["PrivateBroker", "start_detached", "stop_detached"]
