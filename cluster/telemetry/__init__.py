"""Traces and logs of a process: `start` at its beginning, `Telemetry.shutdown` at its end.

`config` reads what the OTEL_* variables ask for, `traces` is the only user of the OpenTelemetry SDK and is
imported only when something is asked for, `logs` sets up logging.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from cluster.telemetry.config import TelemetryConfig
from cluster.telemetry.logs import LogConfig, start_logging

__all__ = ["LogConfig", "Telemetry", "TelemetryConfig", "start", "start_logging"]

log = logging.getLogger(__name__)


class Telemetry(Protocol):
    """The traces of this process."""

    @property
    def dropped(self) -> int:
        """Sampled spans that ended and can no longer reach the collector."""

    def shutdown(self, deadline_s: float = 5.0) -> bool:
        """Sends what is left, for at most `deadline_s`; returns whether all of it went out. Repeatable."""


class _NoTelemetry:
    """Telemetry of a process that traces nothing, or whose provider belongs to somebody else."""

    dropped = 0

    def shutdown(self, deadline_s: float = 5.0) -> bool:
        """Nothing to send."""
        return True


def start(config: TelemetryConfig, role: str, *, attributes: Mapping[str, str] | None = None) -> Telemetry:
    """Sets the provider of this process as `config` asks; `role` is e.g. `router`, `worker`, `publisher`.

    `attributes` join the resource (Ray ids). A provider that is set already stays, and stays its owner's.
    Never raises for a collector that is down: telemetry fails no message.
    """
    if not config.enabled:
        return _NoTelemetry()
    from cluster.telemetry.traces import install  # loads the SDK: only where traces are asked for

    installed = install(config, role, attributes or {})
    if installed is None:
        log.info("A tracer provider is set already in this process; its owner exports the spans")
        return _NoTelemetry()
    return installed
