"""The Ray session of a command: an existing cluster, or a local Ray of our own."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import ray

from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.remote.calls import last_line
from rabbitray.actors.remote.gcs import require_gcs
from rabbitray.actors.remote.nodes import is_head
from rabbitray.cluster.operate.local_usage import raylet_here
from rabbitray.cluster.settings import Settings

MOST_WORKERS = 32
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
    return Session(
        node_id=node,
        job_id=runtime.get_job_id(),
        local=local,
        max_size=most if local else settings.max_size or MOST_WORKERS,
        fits=most if local else settings.max_size or _most_of_cluster(settings),
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


def _most_of_cluster(settings: Settings) -> int:
    cpus = max(0.0, ray.cluster_resources().get("CPU", 1.0) - settings.cpus_for_tasks)
    return most_workers(settings.worker_num_cpus, cpus=cpus, can_grow=settings.can_grow_nodes)


def most_workers(num_cpus: float, *, cpus: float, can_grow: bool) -> int:
    """Workers of `num_cpus` that fit on `cpus`; MOST_WORKERS where the cluster grows as they are asked for."""
    return MOST_WORKERS if can_grow else max(1, min(MOST_WORKERS, int(cpus / num_cpus)))


@contextlib.contextmanager
def _private_umask() -> Iterator[None]:
    """Ray writes its token file with the process's umask."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
