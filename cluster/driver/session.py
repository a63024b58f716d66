"""The Ray session of a command: an existing cluster, or a local Ray of our own."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import ray

from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.remote.calls import last_line
from rabbitray.actors.remote.gcs import require_gcs
from rabbitray.actors.remote.inline import inline_environment
from rabbitray.actors.remote.nodes import growable, is_head, node_types, whole_nodes
from rabbitray.actors.remote.placement.kind import CPU, WorkerKind
from rabbitray.actors.remote.placement.room import beside_tasks, lacks_only, never_fits, room
from rabbitray.cluster.operate.local_usage import raylet_here
from rabbitray.cluster.settings import Settings

log = logging.getLogger(__name__)

MOST_WORKERS: Final = 32
"""`max_size auto` where nothing bounds it: Ray does not say how far the cluster grows, or workers ask for nothing."""

MOST_EVER: Final = 10_000
"""`max_size auto` where the cluster's room is the bound: the largest number that may be set."""

CONNECT_WITHIN_S: Final = 5.0
ANSWER_WITHIN_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Where the actors run: `node_id`, which is the head's or not. `dashboard`: its address, if there is one.

    `max_size`: the bound of the pool; `fits`: workers that have a place now, or may have one soon: those to begin with.
    """

    node_id: str
    job_id: str
    local: bool
    max_size: int
    fits: int
    on_head: bool
    dashboard: str | None


def connect(settings: Settings, *, dashboard: bool = False, log_to_driver: bool = True) -> Session:
    """Joins the cluster at `ray_address`, or starts a local Ray with a place for every worker.

    On a local Ray CPUs are only book-keeping, see `local_cpus`.
    """
    local = settings.ray_address is None
    most = settings.max_size or max(2, os.cpu_count() or 1)
    own: dict[str, Any] = {"log_to_driver": log_to_driver}  # Any: arguments of ray.init
    if local:
        own |= {
            "num_cpus": local_cpus(most, settings.worker_num_cpus, settings.cpus_for_tasks),
            "include_dashboard": dashboard,
        }
        os.environ.update(inline_environment())  # all processes of this Ray inherit it
    else:
        require_ray(settings.ray_address)
    with _private_umask():
        try:
            context = _init(settings, settings.ray_address or "local", **own)
        except ConnectionError as error:
            raise ConfigurationError(
                f"Ray at {settings.ray_address} cannot be reached: {error}; is the cluster up (`ray status`)?"
            ) from error
    runtime = ray.get_runtime_context()
    node = runtime.get_node_id()
    (kind,) = settings.worker_kinds
    there = _most_of_cluster(kind, settings.cpus_for_tasks, can_grow=settings.can_grow_nodes and not local)
    more = growable(kind) if settings.can_grow_nodes and not local else 0
    return Session(
        node_id=node,
        job_id=runtime.get_job_id(),
        local=local,
        max_size=most if local else settings.max_size or most_by_default(kind, more),
        fits=min(most, there) if local else settings.max_size or there,
        on_head=local or is_head(node),
        dashboard=context.dashboard_url or None,
    )


def join(settings: Settings) -> None:
    """Connects to the Ray that a running pool is on; raises ConfigurationError when there is none."""
    address = "auto" if settings.ray_address is None else settings.ray_address
    try:
        _init(settings, address, log_to_driver=False)
    except ConnectionError as error:
        raise ConfigurationError("no Ray runs here; set RAY_ADDRESS to the cluster's address") from error


def _init(settings: Settings, address: str, **own: Any) -> Any:  # Any: arguments and context of ray.init
    """Starts or joins Ray. Raises ConnectionError where none is there, RabbitrayError for whatever else it says, of
    which Ray has no class: a raylet that did not start in time, another version of Ray or Python, a wrong token."""
    try:
        return ray.init(address=address, namespace=settings.ray_namespace, logging_level=logging.WARNING, **own)
    except ConnectionError:
        raise
    except Exception as error:
        if address != "local":
            raise RabbitrayError(f"Ray at {address} cannot be joined: {last_line(error)}; see `ray status`") from error
        raise RabbitrayError(
            f"Ray did not start: {last_line(error)}; the machine may be busy or short of memory: try again, or start "
            "one with `ray start --head` and set RAY_ADDRESS=auto"
        ) from error


def require_reachable(address: str | None) -> None:
    """Raises ConfigurationError when nothing listens at the Ray address: Ray itself would try for ten minutes.

    So it does where the address is that of the dashboard, which takes jobs and no drivers.
    """
    if address is not None and address.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"{address} is the address of Ray's dashboard, which takes jobs: `ray job submit --address {address} -- "
            "rabbitray status --queue NAME`, or on the cluster itself, `ray exec CLUSTER.yaml 'rabbitray status ...'`"
        )
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # auto, local, or a form that only Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_WITHIN_S).close()
    except OSError as error:
        raise ConfigurationError(
            f"nothing answers at the Ray address {address} ({error.strerror or error}, tried for at most "
            f"{CONNECT_WITHIN_S:g} s); check RAY_ADDRESS"
        ) from error


def require_node(address: str | None) -> None:
    """Raises ConfigurationError where no node of a Ray runs on this machine, though an address is given (`host:port`):
    a driver talks to Ray through the node that it is on, and Ray itself would wait for one without a word.
    """
    host, _, port = (address or "").rpartition(":")
    if "://" in host or not port.isdecimal() or raylet_here():
        return
    raise ConfigurationError(
        f"this machine is no node of the Ray at {address}: run the command on one, `ray exec CLUSTER.yaml 'rabbitray "
        f"status ...'`, or as a job, `ray job submit --address http://{host}:8265 -- rabbitray status --queue NAME`"
    )


def require_ray(address: str | None) -> None:
    """Raises ConfigurationError where no Ray answers at the address (None: on this machine), or none that takes this
    process. To be called before `join`.
    """
    require_reachable(address)
    require_node(address)
    require_gcs("auto" if address is None else address, within_s=ANSWER_WITHIN_S)


def local_cpus(workers: int, num_cpus: float, for_tasks: float = 0.0) -> int:
    """CPUs of a local Ray: for so many workers of `num_cpus`, for one in quarantine beside them, for the tasks of
    handlers, one for the rest.
    """
    return math.ceil((workers + 1) * num_cpus + for_tasks) + 1


def most_by_default(kind: WorkerKind, more: int | None) -> int:
    """The bound of a pool for which none is set; `more`: workers that nodes may still bring, None for nobody knows.

    Within it the autoscaler asks for no more than the cluster has room for at each look, or may grow to.
    """
    return MOST_WORKERS if more is None or not kind.bundle else MOST_EVER


def _most_of_cluster(kind: WorkerKind, for_tasks: float, *, can_grow: bool) -> int:
    nodes = whole_nodes()
    fits, most = room(nodes, [kind])[0].workers, beside_tasks(nodes, kind, for_tasks)
    return most_workers(fits if most is None else min(fits, most), can_grow=can_grow)


def most_workers(fits: int, *, can_grow: bool) -> int:
    """Workers to begin with at most, of which `fits` have room; MOST_WORKERS where nodes come as they are asked for."""
    return max(fits, MOST_WORKERS) if can_grow else max(1, fits)


def check_room(settings: Settings) -> None:
    """Raises ConfigurationError where no node of the cluster, and none that may come, can ever have a worker.

    Only warned of: no node has the CPUs yet, or nodes may come of which Ray says nothing; and where `min_size` workers
    do not fit. To be called once Ray is joined.
    """
    (kind,) = settings.worker_kinds
    nodes, types = whole_nodes(), node_types()
    offered = [*nodes, *(types or ())]
    lacking = never_fits(offered, kind, what="node or node type" if types else "node")
    if lacking is not None and not (types and never_fits(types, replace(kind, selectors=())) is None):
        unknown = settings.can_grow_nodes and not types
        if not unknown and not lacks_only(offered, kind, CPU):
            raise ConfigurationError(
                f"{lacking}: a worker asks for {kind.words}; change worker_resources and the settings beside it, or "
                "say can_grow_nodes where nodes are still to come"
            )
        log.warning("%s: workers wait until one comes", lacking)
        return
    fits = room(nodes, [kind])[0]
    _check_beside_tasks(settings, kind, beside_tasks(nodes, kind, settings.cpus_for_tasks))
    if settings.min_size > fits.workers and not settings.can_grow_nodes:
        log.warning(
            "min_size %d workers of %s: the cluster fits %d, short of %s; some stay pending",
            settings.min_size, kind.words, fits.workers, " and ".join(fits.short),
        )  # fmt: skip


def _check_beside_tasks(settings: Settings, kind: WorkerKind, most: int | None) -> None:
    least = max(1, settings.min_size)
    if most is not None and most < least and not settings.can_grow_nodes:
        raise ConfigurationError(
            f"beside cpus_for_tasks {settings.cpus_for_tasks:g} the cluster has CPUs for {most} workers of "
            f"{kind.words}, and min_size is {least}: handlers would wait for their tasks for ever; lower one of them"
        )


@contextlib.contextmanager
def _private_umask() -> Iterator[None]:
    """Ray writes its token file with the process's umask."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
