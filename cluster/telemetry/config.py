"""What the standard OTEL_* variables ask for, as a frozen value that travels to every process. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.secret import Secret

EXPORTERS: Final = ("none", "console", "otlp")
SAMPLERS: Final = (
    *("always_on", "always_off", "traceidratio"),
    *("parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"),
)
COMPRESSIONS: Final = ("none", "gzip", "deflate")
TEMPORALITIES: Final = ("cumulative", "delta", "lowmemory")
UNSUPPORTED: Final = {
    "OTEL_CONFIG_FILE": "declarative configuration is not supported: use the OTEL_* variables",
    "OTEL_PYTHON_TRACER_PROVIDER": "rabbitray makes its own provider",
    "OTEL_PROPAGATORS": "messages carry the W3C trace context (traceparent, tracestate) and no baggage",
    "OTEL_METRIC_EXPORT_TIMEOUT": "an export of metrics ends after OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
    "OTEL_LOGS_EXPORTER": "log lines are not exported",
}
_OF_A_LOGIN: Final = re.compile("auth|key|token|secret|password|credential", re.IGNORECASE)
_DEFAULT_ENDPOINT = "http://localhost:4318"
_MILLISECONDS_FROM = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorConfig:
    """Where one signal goes over OTLP, and how. `headers` and `endpoint` may hold credentials."""

    endpoint: Secret
    headers: Secret = field(default_factory=lambda: Secret(""))
    timeout_s: float = 5.0
    compression: str = "none"
    certificate: str | None = None
    client_key: str | None = None
    client_certificate: str | None = None

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What no text may show: the URL with its login, and the last word of each header that is named after one."""
        entries = (entry.partition("=") for entry in self.headers.reveal().split(","))
        values = (unquote(value).strip() for name, _, value in entries if _OF_A_LOGIN.search(name))
        return (self.endpoint, *(Secret(value.rpartition(" ")[2]) for value in values if value))


def _default_collector(path: str) -> CollectorConfig:
    return CollectorConfig(endpoint=Secret(_DEFAULT_ENDPOINT + path))


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsExport:
    """Metrics of a process: where they go beside Ray's Prometheus endpoint, and how often.

    `exporters` is empty when nothing is asked for.
    """

    exporters: tuple[str, ...] = ()
    collector: CollectorConfig = field(default_factory=lambda: _default_collector("/v1/metrics"))
    temporality: str = "cumulative"
    interval_ms: int = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryConfig:
    """Traces of a process: where they go and how many.

    `exporters` is empty when nothing is asked for. `span_links` is at least `MIN_SPAN_LINKS` of `traces`:
    a batch span must keep a link to each of its messages.
    """

    exporters: tuple[str, ...] = ()
    collector: CollectorConfig = field(default_factory=lambda: _default_collector("/v1/traces"))
    sampler: str = "parentbased_always_on"
    sampler_ratio: float = 1.0
    service_name: str = "rabbitray"
    resource_attributes: tuple[tuple[str, str], ...] = ()
    max_queue_size: int = 8192
    max_export_batch_size: int = 512
    schedule_delay_ms: int = 5000
    span_links: int = 128
    metrics: MetricsExport = field(default_factory=MetricsExport)

    @property
    def enabled(self) -> bool:
        """Whether this process traces at all."""
        return bool(self.exporters)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> TelemetryConfig:
        """Reads the OTEL_* variables of `environ`; raises ConfigurationError with one line for each mistake.

        OTEL_TRACES_EXPORTER (none, console, otlp) asks for traces, or, without it, an OTLP endpoint;
        OTEL_METRICS_EXPORTER alone asks for metrics, which are in Ray's Prometheus endpoint anyway.
        """
        reader = _Reader(environ)
        exporters = _exporters(reader, default="otlp" if reader.otlp("ENDPOINT") else "none")
        attributes = reader.pairs("OTEL_RESOURCE_ATTRIBUTES")
        queue = reader.whole("OTEL_BSP_MAX_QUEUE_SIZE", 8192, 1)
        config = cls(
            exporters=exporters,
            collector=_collector(reader),
            sampler=reader.choice("OTEL_TRACES_SAMPLER", SAMPLERS, "parentbased_always_on"),
            sampler_ratio=reader.number("OTEL_TRACES_SAMPLER_ARG", 1.0, 0.0, 1.0),
            service_name=reader.get("OTEL_SERVICE_NAME") or dict(attributes).get("service.name") or "rabbitray",
            resource_attributes=attributes,
            max_queue_size=queue,
            max_export_batch_size=min(reader.whole("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1), queue),
            schedule_delay_ms=reader.whole("OTEL_BSP_SCHEDULE_DELAY", 5000, 1),
            span_links=reader.whole("OTEL_SPAN_LINK_COUNT_LIMIT", 128, 0),
            metrics=_metrics(_Reader(environ, "METRICS", reader.problems)),
        )
        if reader.problems and not reader.disabled:
            raise ConfigurationError("\n".join(dict.fromkeys(reader.problems)))  # one may serve both signals
        return config


class _Reader:
    """Typed look-ups in one environment; collects the mistakes."""

    def __init__(self, environ: Mapping[str, str], signal: str = "TRACES", problems: list[str] | None = None) -> None:
        self._environ = environ
        self.signal = signal
        self.problems = [] if problems is None else problems
        self.disabled = (self.get("OTEL_SDK_DISABLED") or "").lower() == "true"

    def get(self, name: str) -> str | None:
        return self._environ.get(name, "").strip() or None

    def otlp_name(self, suffix: str) -> str:
        """The name that counts: the one for this signal, else the one for all signals."""
        own = f"OTEL_EXPORTER_OTLP_{self.signal}_{suffix}"
        return own if self.get(own) else f"OTEL_EXPORTER_OTLP_{suffix}"

    def otlp(self, suffix: str) -> str | None:
        return self.get(self.otlp_name(suffix))

    def refuse(self, name: str, allowed: str) -> None:
        self.problems.append(f"{name}={self.get(name)!r} (environment): must be {allowed}")

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        value = (self.get(name) or default).lower()
        if value not in allowed:
            self.refuse(name, "one of " + ", ".join(allowed))
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        try:
            value = float(self.get(name) or default)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            self.refuse(name, f"a number from {low:g} to {high:g}")
            return default
        return value

    def whole(self, name: str, default: int, low: int) -> int:
        text = self.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or int(text) < low:
            self.refuse(name, f"a whole number from {low}")
            return default
        return int(text)

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """`key=value,...` with percent-encoded values, as OTEL_RESOURCE_ATTRIBUTES has them."""
        entries = [entry.partition("=") for entry in (self.get(name) or "").split(",") if entry.strip()]
        if any(not separator or not key.strip() for key, separator, _ in entries):
            self.refuse(name, "key=value pairs, separated by commas")
        return tuple((key.strip(), unquote(value.strip())) for key, _, value in entries)


def _metrics(reader: _Reader) -> MetricsExport:
    return MetricsExport(
        exporters=_exporters(reader, default="none"),
        collector=_collector(reader),
        temporality=reader.choice("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", TEMPORALITIES, "cumulative"),
        interval_ms=reader.whole("OTEL_METRIC_EXPORT_INTERVAL", 60_000, 1),
    )


def _collector(reader: _Reader) -> CollectorConfig:
    return CollectorConfig(
        endpoint=Secret(_endpoint(reader)),
        headers=Secret(reader.otlp("HEADERS") or ""),
        timeout_s=_timeout_s(reader),
        compression=reader.choice(reader.otlp_name("COMPRESSION"), COMPRESSIONS, "none"),
        certificate=reader.otlp("CERTIFICATE"),
        client_key=reader.otlp("CLIENT_KEY"),
        client_certificate=reader.otlp("CLIENT_CERTIFICATE"),
    )


def _exporters(reader: _Reader, default: str) -> tuple[str, ...]:
    name = f"OTEL_{reader.signal}_EXPORTER"
    wanted = [exporter.strip().lower() for exporter in (reader.get(name) or default).split(",")]
    if any(exporter not in EXPORTERS for exporter in wanted):
        reader.refuse(name, "one or more of " + ", ".join(EXPORTERS))
    if reader.disabled:
        return ()
    protocol = reader.otlp("PROTOCOL")
    if "otlp" in wanted and protocol not in (None, "http/protobuf"):
        reader.refuse(reader.otlp_name("PROTOCOL"), "http/protobuf (port 4318 of most collectors)")
    return tuple(dict.fromkeys(exporter for exporter in wanted if exporter != "none"))


def _endpoint(reader: _Reader) -> str:
    """The full URL: the signal's own variable is taken as it is, the one for all signals gets e.g. `/v1/traces`."""
    own = reader.get(f"OTEL_EXPORTER_OTLP_{reader.signal}_ENDPOINT")
    path = f"/v1/{reader.signal.lower()}"
    url = own or (reader.get("OTEL_EXPORTER_OTLP_ENDPOINT") or _DEFAULT_ENDPOINT).rstrip("/") + path
    if not url.startswith(("http://", "https://")):
        name = reader.otlp_name("ENDPOINT")
        reader.problems.append(f"{name} (environment): must be a URL that starts with http:// or https://")
    return url


def _timeout_s(reader: _Reader) -> float:
    """Seconds as the Python SDK has it; from 1,000 on milliseconds, as the specification has it."""
    value = reader.number(reader.otlp_name("TIMEOUT"), 5.0, 0.001, 600_000.0)
    return value / 1000 if value >= _MILLISECONDS_FROM else value
