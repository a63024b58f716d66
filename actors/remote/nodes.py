"""What Ray says of the cluster's nodes: what each has, and has free, and which nodes are about to go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import ray
from ray.exceptions import RayError

from rabbitray.actors.remote.boot import Actor
from rabbitray.actors.remote.compat import inside
from rabbitray.actors.remote.placement.kind import WorkerKind
from rabbitray.actors.remote.placement.room import NodeRoom, room

log = logging.getLogger(__name__)

HEAD: Final = "node:__internal_head__"
"""The resource by which Ray marks the head's node."""

LOOK_PAUSES_S: Final = (0.0, 1.0, 2.0)
"""Before each question for a node that may be about to go: Ray calls one alive while its processes end one by one."""


def draining_nodes() -> dict[str, int]:
    """The nodes that Ray is about to take away, drained or preempted: id -> until when (Unix ms; 0: Ray does not say).

    Where Ray's private call is gone, nodes are only noticed when they die. Blocks.
    """
    try:
        return inside.draining() or {}
    except RayError:
        return {}


def is_head(node: str) -> bool:
    """Whether this node is the head's. Blocks."""
    return any(one["NodeID"] == node and HEAD in one["Resources"] for one in ray.nodes())


def node_stays(node: str) -> bool:
    """Whether Ray says that a node is there and not drained; False, too, where it says nothing. Blocks."""
    try:
        alive = {str(one["NodeID"]) for one in ray.nodes() if one["Alive"]}
        return node in alive and node not in (inside.draining() or {})
    except Exception as error:  # noqa: BLE001 # its kinds are Ray's own, and many while the head is away
        log.warning("Ray does not say which nodes there are: %s", error)
        return False


async def node_leaves(node: str, *, stays: Callable[[str], Awaitable[bool]]) -> bool:
    """Whether a node goes or is gone, or Ray cannot say: asked for some seconds, until it does not stay."""
    for pause_s in LOOK_PAUSES_S:
        await asyncio.sleep(pause_s)
        if not await stays(node):
            return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRoom:
    """The nodes that stay: with what they have `free`, and with all that they `have`."""

    free: list[NodeRoom]
    have: list[NodeRoom]


def cluster_room(*, without: Collection[str] = ()) -> ClusterRoom:
    """What each node that stays and is none of `without` has: three questions to Ray, however many nodes there are.

    Blocks. Where Ray's private call is gone, all nodes count as one.
    """
    free = inside.free_of_nodes()
    if free is None:
        whole = NodeRoom(resources=ray.available_resources())
        return ClusterRoom(free=[whole], have=[NodeRoom(resources=ray.cluster_resources())])
    leaving = {*draining_nodes(), *without}
    nodes = {node: own for node, own in _alive().items() if node in free and node not in leaving}
    return ClusterRoom(
        free=[NodeRoom(resources=free[node], labels=_labels(own)) for node, own in nodes.items()],
        have=[_whole(own) for own in nodes.values()],
    )


def whole_nodes() -> list[NodeRoom]:
    """The nodes of the cluster, with all that they have. Blocks."""
    return [_whole(own) for own in _alive().values()]


def _alive() -> dict[str, Mapping[str, Any]]:  # Any: Ray's table of a node
    return {str(node["NodeID"]): node for node in ray.nodes() if node["Alive"]}


def _whole(node: Mapping[str, Any]) -> NodeRoom:  # Any: as above
    return NodeRoom(resources=node["Resources"], labels=_labels(node))


def _labels(node: Mapping[str, Any]) -> Mapping[str, str]:  # Any: as above
    found: Mapping[str, str] = node.get("Labels") or {}
    return found


def waits_for_place(actor: Actor) -> bool:
    """Whether no node has a place for this actor yet; False where Ray does not say. Blocks."""
    try:
        return bool(inside.waits_for_place(actor))
    except Exception as error:  # noqa: BLE001 # its kinds are Ray's own, and many while the head is away
        log.warning("Ray does not say whether an actor has its place: %s", error)
        return False


def growable(kind: WorkerKind) -> int | None:
    """Workers of this kind for which the node types of the cluster may still bring nodes; None where Ray does not say,
    or there is no bound. A node that may come is taken to have the labels that are asked for. Blocks.
    """
    types = inside.node_types()
    if not types or any(most == inside.UNLIMITED for most, _ in types):
        return None
    there = [node for node in whole_nodes() if HEAD not in node.resources]
    most = sum(most * _fitting([NodeRoom(resources=own)], replace(kind, selectors=())) for most, own in types)
    return max(0, most - _fitting(there, kind))


def node_types() -> list[NodeRoom] | None:
    """One node of each type that may come; None where Ray does not say. Blocks."""
    types = inside.node_types()
    return [NodeRoom(resources=own) for most, own in types if most] if types else None


def _fitting(nodes: Sequence[NodeRoom], kind: WorkerKind) -> int:
    return room(nodes, [kind])[0].workers
