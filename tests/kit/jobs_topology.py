"""The topology that tests of queues and exchanges use."""

from __future__ import annotations

from rabbitray.actors.rabbitmq.topology import Topology

JOBS = Topology(queue="jobs", rung_delays_ms=(1_000, 2_000))
