"""Ray's private calls (2.60): each returns None, or what is said at it, where a later Ray has it no more.

What Ray has no public call for: which nodes are drained, what each of them has free, whether an actor has its place,
what the node types of the cluster may still bring, whether a raylet or a GCS answers. All but `open_raylet` wait for
the GCS.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import ray

log = logging.getLogger(__name__)

HEALTHY: Final = b"\x08\x01"
"""The answer SERVING of gRPC's health check, by which the GCS, too, finds out whether a node is there."""

UNLIMITED: Final = sys.maxsize

REQUEST_BYTES: Final = 100 * 1024 * 1024
"""What Ray's job server takes in one request (2.60), so as one package."""


def draining() -> dict[str, int] | None:
    """The nodes that are drained: id -> until when (Unix ms; 0: for as long as it takes)."""
    try:
        from ray._private.state import state

        asked = state.get_draining_nodes
    except (ImportError, AttributeError):
        return None
    return {str(node): int(until_ms) for node, until_ms in dict(asked()).items()}


def free_of_nodes() -> Mapping[str, Mapping[str, float]] | None:
    """What each node that is alive has free: id -> resource -> how much."""
    try:
        from ray._private.state import available_resources_per_node
    except ImportError:
        return None
    found: Mapping[str, Mapping[str, float]] = available_resources_per_node()
    return found


def waits_for_place(actor: ray.actor.ActorHandle[Any]) -> bool | None:
    """Whether no node has a place for this actor yet; one that has, and still starts, does not wait."""
    try:
        from ray._private.state import state

        told = state.actor_table(actor._actor_id.hex())
        pending, address = told["State"] == "PENDING_CREATION", told["Address"]["IPAddress"]
    except (ImportError, AttributeError, KeyError):
        return None
    return pending and not address


def node_types() -> list[tuple[int, Mapping[str, float]]] | None:
    """Of each node type that Ray's autoscaler knows: how many nodes there may be at most (UNLIMITED for any number),
    and the resources of one; it does not tell their labels. An empty list where it has told nothing: no autoscaler
    runs, or one that does not tell.
    """
    try:
        from ray._private.state import state

        asked = state.get_cluster_config
    except (ImportError, AttributeError):
        return None
    config = asked()
    groups = () if config is None else config.node_group_configs
    return [
        (UNLIMITED if one.max_count < 0 else one.max_count, {name: float(much) for name, much in one.resources.items()})
        for one in groups
    ]


def open_raylet(address: str) -> Callable[[float], Awaitable[bool]] | None:
    """Opens a connection to the raylet at `host:port`; returns what asks it for a sign of life, within so many seconds.

    With TLS and token as Ray itself has them. To be called in a coroutine.
    """
    try:
        import grpc
        from ray._private.grpc_utils import init_grpc_channel
    except ImportError:
        return None
    channel = init_grpc_channel(address, asynchronous=True)
    check = channel.unary_unary("/grpc.health.v1.Health/Check")

    async def answers(within_s: float) -> bool:
        try:
            return bytes(await check(b"", timeout=within_s, wait_for_ready=True)) == HEALTHY
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
                return False
            log.debug("The raylet at %s answered %s", address, error.code())  # it is there, and says so
            return True

    return answers


def connect_to_gcs(address: str) -> object | None:
    """A client of the GCS at this address ("auto": of this machine). Raises ConnectionError where none is there, and
    Ray's errors where it refuses this process; waits for as long as it gives no answer.
    """
    try:
        from ray._private.services import canonicalize_bootstrap_address
    except ImportError:
        return None
    client: Any = getattr(ray._raylet, "GcsClient", None)  # no stubs
    if client is None:
        return None
    if address == "auto":
        _use_local_token()
    where = canonicalize_bootstrap_address(address)
    return None if where is None else client(address=where)


def _use_local_token() -> None:
    """As `ray.init` does it: a local Ray has token auth on by itself (2.59 and later)."""
    try:
        from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
    except ImportError:
        return
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def gcs_addresses_here() -> set[str]:
    """The addresses of the Rays that have a node on this machine; empty where Ray does not say."""
    try:
        from ray._private.services import find_gcs_addresses
    except ImportError:
        return set()
    return set(find_gcs_addresses())


def dashboard_of(address: str, *, within_s: float) -> str | None:
    """`host:port` of the dashboard of the Ray whose GCS is at this address ("auto": of this machine). Raises as
    `connect_to_gcs`.
    """
    client: Any = connect_to_gcs(address)  # no stubs
    if client is None:
        return None
    found = client.internal_kv_get(b"dashboard", b"dashboard", timeout=within_s)
    return None if found is None else bytes(found).decode()


def take_package(address: str, uri: str, *, within_s: float) -> bytes | None:
    """Takes what was put into the GCS under `uri` by the job server's `/api/packages`, out of it. None where there is
    nothing. Raises as `connect_to_gcs`.
    """
    client: Any = connect_to_gcs(address)  # no stubs
    if client is None:
        return None
    found = client.internal_kv_get(uri.encode(), None, timeout=within_s)
    client.internal_kv_del(uri.encode(), False, None, timeout=within_s)
    return None if found is None else bytes(found)


def files_of_package(folder: Path, excludes: Sequence[str], *, gitignore: bool) -> list[Path] | None:
    """The files that Ray would pack of a job's working directory: without what these patterns leave out, each
    .rayignore and, with `gitignore`, each .gitignore.
    """
    try:
        from ray._private.runtime_env.packaging import _dir_travel, _get_excludes, get_excludes_from_ignore_files
    except ImportError:
        return None
    found: list[Path] = []

    def keep(path: Path) -> None:
        if path.is_file():
            found.append(path)

    left_out = [_get_excludes(folder, list(excludes))]
    left_out += get_excludes_from_ignore_files(folder, include_gitignore=gitignore, logger=log)
    for entry in folder.iterdir():  # the folder itself is `.`, which `.*` and `*` leave out with all that is in it
        _dir_travel(entry, left_out, keep, include_gitignore=gitignore, logger=log)
    return found
