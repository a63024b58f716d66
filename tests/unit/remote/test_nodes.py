"""The room that the cluster has: whole workers on single nodes."""

from __future__ import annotations

import pytest
import ray
from ray._private import state

from rabbitray.actors.remote.compat import inside
from rabbitray.actors.remote.nodes import HEAD, beside_tasks, fitting, free_cpus, growable, node_leaves, node_stays
from tests.kit.virtual_time import in_virtual_time

NODES = {"a": {"CPU": 1.0, "memory": 5.0}, "b": {"CPU": 3.0}, "c": {"memory": 5.0}}


@pytest.mark.parametrize(
    ("free", "num_cpus", "workers"),
    [
        ([1.0, 1.0, 1.0], 3.0, 0),
        ([1.0, 1.0, 1.0], 1.0, 3),
        ([2.5, 2.5, 2.5], 2.0, 3),
        ([7.0, 3.0, 0.0], 3.0, 3),
        ([0.3, 0.2, 0.1], 0.1, 6),
        ([], 1.0, 0),
    ],
)
def test_a_worker_fits_on_one_node_or_not_at_all(free: list[float], num_cpus: float, workers: int) -> None:
    assert fitting(free, num_cpus) == workers


def test_a_node_that_is_being_drained_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "available_resources_per_node", lambda: NODES)
    monkeypatch.setattr(state.state, "get_draining_nodes", lambda: {"b": 0})
    assert free_cpus() == [1.0, 0.0]


def test_where_ray_does_not_tell_nodes_apart_they_count_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(state, "available_resources_per_node")
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 4.0})
    assert free_cpus() == [4.0]


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
    monkeypatch.setattr(ray, "nodes", lambda: [*there, gone])
    monkeypatch.setattr(inside, "node_types", lambda: [(3, 8.0), (2, 0.0)])
    assert growable(3.0) == 3 * 2 - 2, "three workers of three CPUs do not fit on eight"
    monkeypatch.setattr(inside, "node_types", lambda: [(3, 8.0), (inside.UNLIMITED, 8.0)])
    assert growable(3.0) is None
    for silent in ([], None):  # no autoscaler runs, or this Ray has no such call
        monkeypatch.setattr(inside, "node_types", lambda silent=silent: silent)
        assert growable(3.0) is None


@pytest.mark.parametrize(
    ("cpus", "num_cpus", "for_tasks", "workers"), [(8, 1, 0, 8), (8, 1, 3, 5), (8, 2, 3, 2), (2, 1, 4, 0)]
)
def test_what_is_left_for_the_tasks_of_handlers(cpus: float, num_cpus: float, for_tasks: float, workers: int) -> None:
    assert beside_tasks(cpus, num_cpus, for_tasks) == workers
