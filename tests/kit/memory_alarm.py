"""A node in memory alarm: it reads nothing more of who publishes, and confirms nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rabbitray.cluster.broker import PrivateBroker


@contextmanager
def memory_alarm(broker: PrivateBroker) -> Iterator[None]:
    """For as long as the block lasts."""
    broker.ctl("set_vm_memory_high_watermark", "0.00001")
    try:
        yield
    finally:
        broker.ctl("set_vm_memory_high_watermark", "0.4")
