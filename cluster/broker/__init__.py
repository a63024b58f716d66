"""A private RabbitMQ node for demo, tests and benches: unprivileged, own directory, ports, cookie and epmd.

`layout` is what a node looks like on disk, `guardian` is the small process that owns the node's processes,
`node` is the handle (`PrivateBroker`), `detached` a node that stays after the command that started it.
"""

from __future__ import annotations

from rabbitray.cluster.broker.detached import start_detached, stop_detached
from rabbitray.cluster.broker.node import PrivateBroker

__all__ = ["PrivateBroker", "start_detached", "stop_detached"]
