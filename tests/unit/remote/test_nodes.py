"""The room that the cluster has: whole workers on single nodes."""

from __future__ import annotations

import pytest
import ray
from ray._private import state

from rabbitray.actors.remote.nodes import fitting, free_cpus

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
