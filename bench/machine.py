"""What a figure was measured on: machine, versions, settings, commit. No path and no secret in it."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

import psutil

from rabbitray.cluster.broker.programs import programs

_PACKAGES = ("ray", "aio-pika", "aiormq", "pamqp", "duckdb", "pyarrow", "msgpack", "opentelemetry-sdk")
_OURS = ("RABBITRAY_", "QUEUE_", "RABBITMQ_", "PUBLISHER_", "DATABASE_", "METRICS_", "OTEL_", "MAX_RETRIES")
_SECRET = ("URL", "HEADERS", "TOKEN", "PASSWORD", "RABBITRAY_RABBITMQ")  # the last may be a folder


class Surroundings(TypedDict):
    """Where, when and of what a bench was run; ready for JSON."""

    date: str
    commit: str
    machine: dict[str, str | int]
    versions: dict[str, str]
    settings: dict[str, str]


def surroundings() -> Surroundings:
    """Of this machine and this environment, now."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _output(["git", "describe", "--always", "--dirty"]),
        "machine": {
            "cpu": _cpu(),
            "cores": psutil.cpu_count() or 0,
            "memory_gib": round(psutil.virtual_memory().total / 2**30),
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": {"python": platform.python_version(), "rabbitmq": _rabbitmq()}
        | {name: _version(name) for name in _PACKAGES},
        "settings": _settings(),
    }


def _settings() -> dict[str, str]:
    names = sorted(name for name in os.environ if name.startswith(_OURS))
    return {name: "(set)" if any(word in name for word in _SECRET) else os.environ[name] for name in names}


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _rabbitmq() -> str:
    """Read from the server's folder: nothing has to be started."""
    if os.environ.get("RABBITMQ_URL"):
        return "of RABBITMQ_URL"
    return programs().version or "unknown"


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
