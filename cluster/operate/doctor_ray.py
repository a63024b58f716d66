"""The part of `rabbitray check` that looks at Ray."""

from __future__ import annotations

import ray

from rabbitray.actors.errors import ConfigurationError
from rabbitray.cluster.driver.session import join, require_ray
from rabbitray.cluster.operate.doctor import CheckRow, Level
from rabbitray.cluster.operate.running_pool import pools, token_hint
from rabbitray.cluster.settings import Loaded


def cluster(loaded: Loaded) -> tuple[list[CheckRow], float | None]:
    """What was found of Ray, and the CPUs of the cluster where there is one."""
    settings = loaded.settings
    try:
        require_ray(settings.ray_address)
        join(settings)
    except ConfigurationError as nothing:
        if settings.ray_address is None:
            return [_row("ok", f"Ray {ray.__version__}; no cluster here, the pool starts a local one")], None
        return [
            _row(
                "refuse",
                f"Ray at {settings.ray_address} cannot be reached: {nothing}{token_hint(settings.ray_address)}",
            )
        ], None
    try:
        cpus = float(ray.cluster_resources().get("CPU", 0.0))
        nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        where = ray.get_runtime_context().gcs_address
        return [_row("ok", f"Ray {ray.__version__} at {where}: {nodes} nodes, {cpus:g} CPUs"), _pool(loaded)], cpus
    finally:
        ray.shutdown()


def _pool(loaded: Loaded) -> CheckRow:
    name, namespace = loaded.settings.pool, loaded.settings.ray_namespace
    return _row("ok", f"pool {name!r} runs" if name in pools(namespace) else f"pool {name!r} does not run")


def _row(level: Level, text: str) -> CheckRow:
    return CheckRow(area="ray", level=level, text=text)
