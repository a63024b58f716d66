"""The room that the cluster has: whole workers on single nodes."""

from __future__ import annotations

import pytest
import ray
from ray._private import state

from rabbitray.actors.remote.compat import inside
from rabbitray.actors.remote.nodes import HEAD, cluster_room, growable, node_leaves, node_stays
from rabbitray.actors.remote.placement.kind import WorkerKind
from rabbitray.actors.remote.placement.room import NodeRoom
from tests.kit.virtual_time import in_virtual_time

NODES: dict[str, dict[str, float]] = {"a": {"CPU": 1.0, "memory": 5.0}, "b": {"CPU": 3.0}, "c": {"memory": 5.0}}


def cpus(nodes: list[NodeRoom]) -> list[float]:
    return [node.resources.get("CPU", 0.0) for node in nodes]


def table(**labels: dict[str, str]) -> list[dict[str, object]]:
    """As Ray's own: nodes a and b with twice what they have free, c with a label, and one that is gone."""
    there = [
        {"NodeID": name, "Alive": True, "Labels": labels.get(name, {}),
         "Resources": {what: 2 * much for what, much in NODES[name].items()}}
        for name in NODES
    ]  # fmt: skip
    return [*there, {"NodeID": "d", "Alive": False, "Resources": {"CPU": 9.0}, "Labels": {}}]


def test_a_node_that_is_being_drained_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "available_resources_per_node", lambda: NODES)
    monkeypatch.setattr(state.state, "get_draining_nodes", lambda: {"b": 0})
    monkeypatch.setattr(ray, "nodes", lambda: table(c={"zone": "x"}))
    found = cluster_room()
    assert (cpus(found.free), cpus(found.have)) == ([1.0, 0.0], [2.0, 0.0])
    assert [node.labels for node in found.free] == [node.labels for node in found.have] == [{}, {"zone": "x"}]
    assert cpus(cluster_room(without=["c"]).free) == [1.0]


def test_where_ray_does_not_tell_nodes_apart_they_count_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(state, "available_resources_per_node")
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 4.0})
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 6.0})
    found = cluster_room()
    assert (cpus(found.free), cpus(found.have)) == ([4.0], [6.0])


@pytest.mark.parametrize(
    ("answers", "leaves"),
    [
        ([False], True),
        ([True, True, False], True),  # Ray calls a node alive while its processes end one by one
        ([True, True, True], False),
    ],
)
@in_virtual_time
async def test_a_node_is_asked_for_until_it_is_known_whether_it_goes(answers: list[bool], leaves: bool) -> None:
    left = iter(answers)

    async def stays(_: str) -> bool:
        return next(left)

    assert await node_leaves("a", stays=stays) is leaves
    assert list(left) == []


@pytest.mark.parametrize(("node", "stays"), [("a", True), ("b", False), ("c", False), ("d", False)])
def test_a_node_that_is_drained_or_dead_or_forgotten_does_not_stay(
    monkeypatch: pytest.MonkeyPatch, node: str, stays: bool
) -> None:
    nodes = [{"NodeID": name, "Alive": name != "c"} for name in "abc"]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(state.state, "get_draining_nodes", lambda: {"b": 0})
    assert node_stays(node) is stays


@pytest.mark.parametrize("error", [RuntimeError("no GCS"), ray.exceptions.RpcError("no GCS")])
def test_where_ray_cannot_be_asked_no_node_is_said_to_stay(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """So that an error of the look-up accuses nobody."""

    def away() -> None:
        raise error

    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": "a", "Alive": True}])
    monkeypatch.setattr(state.state, "get_draining_nodes", away)
    assert not node_stays("a")


def test_a_cluster_may_grow_by_what_its_node_types_have_left(monkeypatch: pytest.MonkeyPatch) -> None:
    head = {"CPU": 4.0, HEAD: 1.0}
    there = [{"Alive": True, "Resources": head}, {"Alive": True, "Resources": {"CPU": 8.0}}]
    gone = {"Alive": False, "Resources": {"CPU": 8.0}}
    own = [{"NodeID": str(number), **node} for number, node in enumerate([*there, gone])]
    monkeypatch.setattr(ray, "nodes", lambda: own)
    kind = WorkerKind(num_cpus=3)
    monkeypatch.setattr(inside, "node_types", lambda: [(3, {"CPU": 8.0}), (2, {})])
    assert growable(kind) == 3 * 2 - 2, "three workers of three CPUs do not fit on eight"
    monkeypatch.setattr(inside, "node_types", lambda: [(3, {"CPU": 8.0}), (2, {"CPU": 8.0, "GPU": 4.0})])
    assert growable(WorkerKind(num_gpus=0.5, selectors=((("zone", "a"),),))) == 2 * 8, "each type by what is short"
    monkeypatch.setattr(inside, "node_types", lambda: [(3, {"CPU": 8.0}), (inside.UNLIMITED, {"CPU": 8.0})])
    assert growable(kind) is None
    for silent in ([], None):  # no autoscaler runs, or this Ray has no such call
        monkeypatch.setattr(inside, "node_types", lambda silent=silent: silent)
        assert growable(kind) is None
