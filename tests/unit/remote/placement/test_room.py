"""How many workers fit: counted for a whole cluster, and by placing them one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.remote.placement.kind import UNIT, WorkerKind, gpu_share, matches, units
from rabbitray.actors.remote.placement.room import (
    NodeRoom,
    Room,
    beside_tasks,
    devices,
    lacks_only,
    never_fits,
    placeable,
    places_beside_tasks,
    room,
)

GIB = 2**30
NAMES = ("CPU", "GPU", "memory", "license")
ZONES = ("a", "b", "c")

shares = st.integers(2, 12).map(lambda parts: gpu_share(1 / parts))
gpu_asks = st.one_of(st.just(0.0), shares, st.integers(1, 3).map(float))
kinds = st.builds(
    WorkerKind,
    num_cpus=st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0, 1.5, 3.0]),
    num_gpus=gpu_asks,
    memory=st.sampled_from([0, GIB // 2, GIB, 3 * GIB]),
    resources=st.sampled_from([(), (("license", 1.0),), (("license", 0.3),)]),
    selectors=st.sampled_from(
        [(), ((("zone", "a"),),), ((("zone", "!a"),),), ((("zone", "a"),), (("zone", "in(b,c)"),))]
    ),
).filter(lambda kind: kind.bundle)


@st.composite
def some_nodes(draw: st.DrawFn) -> NodeRoom:
    gpus = draw(st.one_of(st.none(), st.lists(st.sampled_from([0.0, 0.1, 0.4, 0.5, 0.75, 1.0]), max_size=4).map(tuple)))
    resources = {
        "CPU": draw(st.sampled_from([0.0, 0.3, 1.0, 2.0, 4.0])),
        "GPU": sum(gpus) if gpus is not None else draw(st.sampled_from([0.0, 0.5, 1.0, 1.9, 2.0, 4.0])),
        "memory": float(draw(st.sampled_from([0, GIB, 2 * GIB, 8 * GIB]))),
        "license": draw(st.sampled_from([0.0, 1.0, 5.0])),
    }
    labels = draw(st.sampled_from([{}, *({"zone": zone} for zone in ZONES)]))
    return NodeRoom(resources={name: much for name, much in resources.items() if much}, labels=labels, gpus=gpus)


clusters = st.lists(some_nodes(), max_size=4)


class Node:
    """A node on which workers are placed one by one, as a person would with a pencil."""

    def __init__(self, node: NodeRoom) -> None:
        self.labels = node.labels
        self.left = {name: units(much) for name, much in node.resources.items() if name != "GPU"}
        sum_of = node.resources.get("GPU", 0.0)
        self.gpus = devices(sum_of) if node.gpus is None else [units(share) for share in node.gpus]

    def place(self, kind: WorkerKind) -> bool:
        """Takes what one worker asks for, from one device or from whole ones; False where something is missing."""
        asked = kind.bundle
        gpus = asked.pop("GPU", 0)
        if not matches(kind.selectors, self.labels) or any(
            self.left.get(name, 0) < much for name, much in asked.items()
        ):
            return False
        able = [number for number, free in enumerate(self.gpus) if free >= min(gpus, UNIT)]
        needed = max(1, gpus // UNIT) if gpus else 0
        if len(able) < needed:
            return False
        for number in able[:needed]:
            self.gpus[number] -= min(gpus, UNIT)
        for name, much in asked.items():
            self.left[name] -= much
        return True


@given(clusters, kinds)
def test_so_many_as_are_counted_can_be_placed_and_not_one_more(cluster: list[NodeRoom], kind: WorkerKind) -> None:
    nodes = [Node(node) for node in cluster]
    counted = room(cluster, [kind])[0].workers
    placed = 0
    while placed <= counted and any(node.place(kind) for node in nodes):
        placed += 1
    assert placed == counted


@given(clusters, kinds)
def test_without_what_is_short_there_is_room_for_more(cluster: list[NodeRoom], kind: WorkerKind) -> None:
    found = room(cluster, [kind])[0]
    assert bool(found.short) == bool(cluster)
    if not cluster or found.short == ("labels",):
        assert found.workers == 0
        return
    ray = {"cpu": "CPU", "gpu": "GPU"}
    more = {ray.get(name, name): 1e15 / UNIT if name == "memory" else 1e6 for name in found.short}
    richer = [replace(node, resources={**node.resources, **more}, gpus=None if "gpu" in found.short else node.gpus)
              for node in cluster]  # fmt: skip
    assert room(richer, [kind])[0].workers > found.workers


@given(clusters, kinds, some_nodes())
def test_nodes_add_up_in_any_order(cluster: list[NodeRoom], kind: WorkerKind, other: NodeRoom) -> None:
    alone, there = room([other], [kind])[0].workers, room(cluster, [kind])[0].workers
    assert (
        room([other, *cluster], [kind])[0].workers == room([*cluster[::-1], other], [kind])[0].workers == alone + there
    )


@given(clusters, kinds)
def test_what_never_fits_has_no_room_and_says_why(cluster: list[NodeRoom], kind: WorkerKind) -> None:
    why, fits = never_fits(cluster, kind), room(cluster, [kind])[0].workers
    assert (why is None) == (fits > 0 or not cluster)
    assert why is None or why.startswith("no node ")


def test_eight_workers_of_a_quarter_fit_on_two_gpus() -> None:
    node, quarter = NodeRoom(resources={"CPU": 16.0, "GPU": 2.0}), WorkerKind(num_gpus=gpu_share(0.25))
    assert room([node], [quarter]) == (Room(workers=8, short=("gpu",)),)
    assert room([node], [quarter, WorkerKind()]) == (Room(workers=8, short=("gpu",)), Room(workers=16, short=("cpu",)))


@pytest.mark.parametrize(
    ("free", "ask", "fits"),
    [
        ((0.4, 0.4), 0.5, 0),  # their sum would be enough
        ((0.5, 0.9), 1.0, 0),
        ((0.5, 1.0), 0.5, 3),
        ((1.0, 1.0, 0.9), 2.0, 1),
        ((1.0,), 1 / 7, 7),
    ],
)
def test_gpus_are_counted_device_by_device(free: tuple[float, ...], ask: float, fits: int) -> None:
    node = NodeRoom(resources={"CPU": 16.0, "GPU": sum(free)}, gpus=free)
    assert room([node], [WorkerKind(num_cpus=0, num_gpus=gpu_share(ask))])[0].workers == fits


@pytest.mark.parametrize(
    ("free", "have", "there", "more"),
    [
        (3, 8, 5, 3),
        (8, 8, 8, 0),  # they were placed just now: Ray still calls everything free
        (6, 8, 3, 5),
        (0, 8, 3, 0),  # others have the rest
        (2, 0, 3, 0),  # their nodes are about to go
    ],
)
def test_workers_that_ray_does_not_count_yet_are_not_placed_twice(free: int, have: int, there: int, more: int) -> None:
    assert placeable(Room(workers=free), Room(workers=have), there) == more


NODES = [
    NodeRoom(resources={"CPU": 8.0, "GPU": 1.0, "memory": 4.0 * GIB}, labels={"zone": "a"}),
    NodeRoom(resources={"CPU": 2.0, "memory": 64.0 * GIB, "license": 2.0}, labels={"zone": "b"}),
]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (WorkerKind(num_gpus=2), "no node offers gpu=2; the largest has 1"),
        (WorkerKind(num_cpus=9), "no node offers cpu=9; the largest has 8"),
        (WorkerKind(memory=100 * GIB), "no node offers memory=100GiB; the largest has 64GiB"),
        (WorkerKind(resources=(("fpga", 1.0),)), "no node offers fpga=1; the largest has 0"),
        (WorkerKind(accelerator_type="A100"), "no node has an accelerator of type A100"),
        (WorkerKind(selectors=((("zone", "c"),),)), "no node has the labels zone=c"),
        (
            WorkerKind(num_gpus=1, memory=8 * GIB),
            "no node offers cpu=1, gpu=1, memory=8GiB together",
        ),
        (WorkerKind(num_gpus=1, selectors=((("zone", "b"),),)), "no node offers gpu=1; the largest has 0"),
        (WorkerKind(num_gpus=0.5), None),
        (WorkerKind(num_cpus=0), None),
    ],
)
def test_what_no_node_can_ever_have_is_named_with_the_largest_that_there_is(kind: WorkerKind, why: str | None) -> None:
    assert never_fits(NODES, kind) == why


def test_only_the_cpus_are_lacking_where_other_nodes_may_bring_them() -> None:
    assert lacks_only(NODES, WorkerKind(num_cpus=9), "CPU")
    assert not lacks_only(NODES, WorkerKind(num_cpus=9, num_gpus=2), "CPU")


@pytest.mark.parametrize(
    ("cpus", "num_cpus", "for_tasks", "workers"),
    [((8,), 1, 0, None), ((4, 4), 1, 3, 5), ((8,), 2, 3, 2), ((2,), 1, 4, 0), ((8,), 0, 3, None)],
)
def test_what_is_left_for_the_tasks_of_handlers(
    cpus: tuple[float, ...], num_cpus: float, for_tasks: float, workers: int | None
) -> None:
    have = [NodeRoom(resources={"CPU": each}) for each in cpus]

    assert beside_tasks(have, WorkerKind(num_cpus=num_cpus), for_tasks) == workers


@pytest.mark.parametrize(
    ("most", "there", "leaving", "more"), [(5, 3, 0, 2), (5, 3, 1, 1), (5, 5, 1, 0), (2, 4, 0, -2), (2, 4, 3, -2)]
)
def test_who_leaves_has_its_place_until_its_end(most: int, there: int, leaving: int, more: int) -> None:
    assert places_beside_tasks(most, there, leaving) == more
