"""Switches metrics and traces off and on inside the running processes of a pool, for `overhead` alone.

Off leaves out what METRICS_ENABLED=false and a missing OTLP endpoint leave out for each message, batch and part. What
stays: one call that does nothing where there was a meter, the router's counts once a second, and threads of
OpenTelemetry that wait.
"""

from __future__ import annotations

from collections.abc import Callable

from rabbitray.actors.router.meter import PoolMeter
from rabbitray.actors.telemetry.metrics import MetricsBuffer
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.actors.worker.meter import WorkerMeter

METERS = ((MetricsBuffer, "record"), (PoolMeter, "look"), (WorkerMeter, "jobs"), (WorkerMeter, "look"))

_as_written: dict[tuple[type, str], Callable[..., object]] = {}
"""In a process that is switched off: what stood there."""


def switch(*, metrics: bool, traces: bool) -> None:
    """In this process, from now on."""
    for kind, name in METERS:
        _set(kind, name, on=metrics)
    if traces:
        if isinstance(vars(Tracing).get("enabled"), property):
            del Tracing.enabled  # each one's own is seen again
    else:
        setattr(Tracing, "enabled", property(lambda _: False))  # noqa: B010 # hides each one's own; none is made meanwhile


def _set(kind: type, name: str, *, on: bool) -> None:
    if on and (kind, name) in _as_written:
        setattr(kind, name, _as_written.pop((kind, name)))
    elif not on and (kind, name) not in _as_written:
        _as_written[kind, name] = getattr(kind, name)
        setattr(kind, name, _nothing)


def _nothing(*_: object, **__: object) -> None:
    """Nothing."""
