"""Traces, metrics and logs of a process: `start` at its beginning, `Telemetry.shutdown` at its end.

config    what the OTEL_* variables ask for
traces    OpenTelemetry's SDK for spans; imported only when they are asked for
meters    OpenTelemetry's SDK for metrics; imported only when they are asked for
shutdown  their end, in a thread, with a deadline
logs      text or JSON, with the ids of job and trace, without passwords
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Protocol

from rabbitray.actors.secret import NO_SECRETS, Redactor
from rabbitray.cluster.telemetry.config import TelemetryConfig
from rabbitray.cluster.telemetry.logs import LogConfig, start_logging

__all__ = ["LogConfig", "Telemetry", "TelemetryConfig", "start", "start_logging"]

log = logging.getLogger(__name__)


class Telemetry(Protocol):
    """The traces and metrics of this process."""

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


class _Together:
    """Traces and metrics of one process, ended one after the other within one deadline."""

    def __init__(self, traces: Telemetry, metrics: Telemetry) -> None:
        self._traces = traces
        self._metrics = metrics

    @property
    def dropped(self) -> int:
        """Spans that were lost; a lost export of metrics loses nothing, the next one carries the same totals."""
        return self._traces.dropped

    def shutdown(self, deadline_s: float = 5.0) -> bool:
        """Sends what is left of both."""
        until = time.monotonic() + deadline_s
        complete = self._traces.shutdown(deadline_s)
        return self._metrics.shutdown(max(0.0, until - time.monotonic())) and complete


def start(
    config: TelemetryConfig,
    role: str,
    *,
    attributes: Mapping[str, str] | None = None,
    redact: Redactor = NO_SECRETS,
) -> Telemetry:
    """Sets the providers of this process as `config` asks; `role` is e.g. `router`, `worker`, `publisher`.

    `attributes` join the resource (Ray ids); `redact` knows what the texts of our spans must not hold. A provider
    that is set already stays, and stays its owner's.
    Never raises for a collector that is down: telemetry fails no message.
    """
    traces = _start_traces(config, role, attributes or {}, redact)
    metrics = _start_metrics(config, role, attributes or {})
    return traces if metrics is None else _Together(traces, metrics)


def _start_traces(config: TelemetryConfig, role: str, attributes: Mapping[str, str], redact: Redactor) -> Telemetry:
    if not config.enabled:
        return _NoTelemetry()
    from rabbitray.cluster.telemetry.traces import install  # loads the SDK: only where traces are asked for

    installed = install(config, role, attributes, redact)
    if installed is None:
        log.info("A tracer provider is set already in this process; its owner exports the spans")
        return _NoTelemetry()
    return installed


def _start_metrics(config: TelemetryConfig, role: str, attributes: Mapping[str, str]) -> Telemetry | None:
    if not config.metrics.exporters:
        return None
    from rabbitray.cluster.telemetry.meters import install  # loads the SDK: only where metrics are asked for

    installed = install(config, role, attributes)
    if installed is None:
        log.info("A meter provider is set already in this process; its owner exports the metrics")
    return installed
