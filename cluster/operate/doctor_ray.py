"""The part of `rabbitray check` that looks at Ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import ray

from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.remote.node_versions import NodeVersions, node_versions
from rabbitray.actors.remote.nodes import whole_nodes
from rabbitray.actors.remote.placement.room import room
from rabbitray.cluster.driver.session import check_room, join, require_ray
from rabbitray.cluster.operate.doctor import CheckRow, Level
from rabbitray.cluster.operate.running_pool import RunningPool, pools, token_hint
from rabbitray.cluster.settings import Loaded, Settings

ASK_WITHIN_S: Final = 5.0
VERSIONS_WITHIN_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What was found of Ray; `cpus` of the cluster, and the broker of a running pool, where there are any."""

    rows: list[CheckRow]
    cpus: float | None = None
    broker: CheckRow | None = None


def cluster(loaded: Loaded) -> Cluster:
    """Looks at Ray, and asks a running pool for its broker where this machine knows of none."""
    settings = loaded.settings
    try:
        require_ray(settings.ray_address)
        join(settings)
    except ConfigurationError as nothing:
        if settings.ray_address is None:
            return Cluster(rows=[_row("ok", f"Ray {ray.__version__}; no cluster here, the pool starts a local one")])
        why = f"Ray at {settings.ray_address} cannot be reached: {nothing}{token_hint(settings.ray_address)}"
        return Cluster(rows=[_row("refuse", why)])
    try:
        cpus = float(ray.cluster_resources().get("CPU", 0.0))
        nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        where = ray.get_runtime_context().gcs_address
        rows = [_row("ok", f"Ray {ray.__version__} at {where}: {nodes} nodes, {cpus:g} CPUs"), *versions()]
        rows.append(_room(settings))
        runs = loaded.settings.pool in pools(loaded.settings.ray_namespace)
        return Cluster(rows=[*rows, _pool(loaded, runs=runs)], cpus=cpus, broker=_broker(loaded) if runs else None)
    finally:
        ray.shutdown()


def _pool(loaded: Loaded, *, runs: bool) -> CheckRow:
    return _row("ok", f"pool {loaded.settings.pool!r} {'runs' if runs else 'does not run'}")


def _room(settings: Settings) -> CheckRow:
    """How many workers the nodes have room for, were they empty, and what keeps it from more."""
    (kind,) = settings.worker_kinds
    try:
        check_room(settings)
    except ConfigurationError as never:
        return _row("refuse", str(never))
    fits = room(whole_nodes(), [kind])[0]
    short = f", short of {' and '.join(fits.short)}" if fits.short else ""
    return _row("ok" if fits.workers else "warn", f"the nodes fit {fits.workers} workers of {kind.words}{short}")


def _broker(loaded: Loaded) -> CheckRow | None:
    """What the running pool says of its broker, where this machine's environment names none."""
    if loaded.is_set("rabbitmq_url"):
        return None
    settings = loaded.settings
    try:
        report = RunningPool(name=settings.pool, namespace=settings.ray_namespace).report(within_s=ASK_WITHIN_S)
    except RabbitrayError as silent:
        return CheckRow(area="broker", level="warn", text=f"RABBITMQ_URL is not set here, and {silent}")
    how = "is connected" if report.connected else "is not connected now; it was last"
    return CheckRow(
        area="broker",
        level="ok" if report.connected else "warn",
        text=f"RABBITMQ_URL is not set here; the pool {how} to {report.broker}, and looks at its queues itself",
    )


def _row(level: Level, text: str) -> CheckRow:
    return CheckRow(area="ray", level=level, text=text)


def versions() -> Iterator[CheckRow]:
    """Whether each node has the Ray and the Python (to its minor) of this process: what one pickles the other reads."""
    here = NodeVersions.here()
    found, silent = node_versions(within_s=VERSIONS_WITHIN_S)
    for told, nodes in Counter(found.values()).items():
        if told.ray != here.ray or told.python != here.python:
            names = ", ".join(sorted(node for node, own in found.items() if own == told))
            text = f"{nodes} nodes have {told}, and this process {here}: {names}"
            yield _row("refuse", text)
    if silent:
        yield _row("warn", f"no answer within {VERSIONS_WITHIN_S:g} s from the nodes {', '.join(sorted(silent))}")
    if found and all(own.ray == here.ray and own.python == here.python for own in found.values()):
        yield _row("ok", f"all {len(found)} nodes that answer have {here}")
