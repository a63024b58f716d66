"""Metrics and spans of one process.

kpi            what is measured, with names, units and targets
metrics        the buffer of measurements, and where they go
ray_metrics    to Ray's Prometheus endpoint
otel_metrics   to OpenTelemetry
tracing        the spans of a message's path
span           the span that one step of the path holds
trace_context  the trace in message headers
rate_limit     bounds on log lines and spans
own_logging    our log lines stay whatever the user's code sets up
"""
