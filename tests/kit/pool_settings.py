"""Settings of a small pool with names of its own, and the handlers that it may run."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

from rabbitray.cluster.settings import Loaded, load

HANDLE = "tests.kit.steered_handler:handle"
HANDLE_ASYNC = "tests.kit.steered_handler:handle_async"
HANDLE_WITH_MESSAGE = "tests.kit.steered_handler:handle_with_message"
HANDLE_BATCH = "tests.kit.steered_handler:handle_batch"


def settings_for(amqp_url: str, folder: Path, environ: Mapping[str, str] | None = None, **own: object) -> Loaded:
    """Settings of a small pool with names of its own; `environ` holds e.g. OTEL_* variables."""
    name = f"t{uuid.uuid4().hex[:8]}"
    base: dict[str, object] = {
        "rabbitmq_url": amqp_url,
        "queue": name,
        "pool": name,
        "results": folder / "results.duckdb",
        "initial_size": 2,
        "min_size": 2,
        "max_size": 4,
        "dedupe_capacity": 100_000,
        "queue_depth_busy_interval_ms": 250,
        "queue_depth_interval_ms": 500,
        "retry_delay_ms": 100,
        "retry_max_delay_ms": 800,
        "drain_deadline_s": 10,
    }
    cli = base | own
    return load(cli, {"RABBITMQ_URL": str(cli.pop("rabbitmq_url"))} | dict(environ or {}), None)
