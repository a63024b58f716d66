"""Metrics and spans of one process.

kpi            what is measured, with names, units and targets
metrics        the buffer of measurements, and where they go
ray_metrics    to Ray's Prometheus endpoint
otel_metrics   to OpenTelemetry
tracing        spans of the stations; `span` is what a station holds
trace_context  the trace in message headers
rate_limit     bounds on log lines and spans
"""
