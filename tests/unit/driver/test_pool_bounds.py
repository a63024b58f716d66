"""How large a pool may be: the settings for clusters that grow, what `scale` and a restart are held to."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.remote.compat import inside
from rabbitray.actors.remote.placement.kind import WorkerKind
from rabbitray.autoscale.policy.signals import START_MARGIN_S
from rabbitray.cluster.commands.scale import held_text
from rabbitray.cluster.driver import compose
from rabbitray.cluster.driver.actors import SMALL_CPU
from rabbitray.cluster.driver.session import (
    MOST_EVER,
    MOST_WORKERS,
    check_room,
    local_cpus,
    most_by_default,
    most_workers,
)
from rabbitray.cluster.settings import Loaded, load

URL = {"RABBITMQ_URL": "amqp://127.0.0.1:1/"}


def loaded_of(**cli: object) -> Loaded:
    return load(cli, URL, None)


def test_nodes_take_longer_to_come_than_workers_to_start() -> None:
    fixed, growing = loaded_of().settings, loaded_of(can_grow_nodes="true").settings
    assert (fixed.can_grow_nodes, fixed.pending_limit_s, fixed.start_timeout_s) == (False, 120, 300)
    assert (growing.can_grow_nodes, growing.pending_limit_s, growing.start_timeout_s) == (True, 600, 780)
    own = loaded_of(can_grow_nodes=True, pending_limit_s="60")
    assert (own.settings.pending_limit_s, own.settings.start_timeout_s) == (60, 240)
    assert own.sources["start_timeout_s"] == "derived from pending_limit_s"
    assert loaded_of(can_grow_nodes=True).sources["start_timeout_s"] == "derived from pending_limit_s"
    assert loaded_of().sources["start_timeout_s"] == loaded_of().sources["pending_limit_s"] == "default"


def test_a_start_must_have_more_time_than_the_wait_for_a_place() -> None:
    least = 200 + START_MARGIN_S
    assert loaded_of(pending_limit_s=200, start_timeout_s=least).settings.start_timeout_s == least
    with pytest.raises(ConfigurationError) as refused:
        loaded_of(pending_limit_s=200, start_timeout_s=least - 1)
    assert str(refused.value).splitlines() == [
        "start_timeout_s=229: must be at least 230, which is pending_limit_s 200 and 30; "
        "raise it, leave it out, or lower pending_limit_s"
    ]


def test_the_pool_starts_and_ends_starts_as_the_settings_say(tmp_path: Path) -> None:
    loaded = loaded_of(start_timeout_s=400, can_grow_nodes="yes", pending_limit_s=300, results=tmp_path / "r.duckdb")
    setup = compose.router(loaded, "m:f", 6)
    for kind in ("worker", "quarantine"):
        assert setup.pool_config(kind, 2).start_timeout_s == 400
    scaler = compose.autoscaler(loaded, 6)
    assert scaler.can_grow_nodes
    assert (scaler.limits.pending_limit_s, scaler.limits.start_timeout_s) == (300, 400)


@pytest.mark.parametrize(
    ("control", "size"),
    [({}, 3), ({"fixed_size": 5}, 5), ({"fixed_size": 400}, 6), ({"fixed_size": 0}, 2), ({"fixed_size": None}, 3)],
)
def test_a_fixed_size_of_an_earlier_run_is_held_to_the_bounds_of_this_one(
    control: dict[str, object], size: int, tmp_path: Path
) -> None:
    loaded = loaded_of(min_size=2, initial_size=3, results=tmp_path / "r.duckdb")
    assert compose.router(loaded, "m:f", 6).first_size(control) == size


def test_no_more_workers_are_started_than_fit(tmp_path: Path) -> None:
    loaded = loaded_of(initial_size=9, results=tmp_path / "r.duckdb")
    assert compose.router(loaded, "m:f", 2).first_size({}) == 2


def test_a_cluster_that_grows_is_not_measured_by_the_nodes_that_it_has() -> None:
    assert most_workers(0, can_grow=False) == 1
    assert most_workers(1, can_grow=True) == MOST_WORKERS
    assert most_workers(400, can_grow=False) == most_workers(400, can_grow=True) == 400


@pytest.mark.parametrize(
    ("kind", "more", "most"),
    [
        (WorkerKind(), 0, MOST_EVER),  # what the nodes fit, whatever that is
        (WorkerKind(), 50, MOST_EVER),
        (WorkerKind(), None, MOST_WORKERS),  # nodes may come, and nobody says how many
        (WorkerKind(num_cpus=0), 0, MOST_WORKERS),  # any number fits
        (WorkerKind(num_cpus=0, num_gpus=0.5), 0, MOST_EVER),
    ],
)
def test_a_pool_without_a_bound_is_as_large_as_the_cluster(kind: WorkerKind, more: int | None, most: int) -> None:
    assert most_by_default(kind, more) == most


def test_an_environment_that_is_built_has_its_own_time(tmp_path: Path) -> None:
    """So that a worker whose packages are installed for minutes is neither taken back nor a failed start."""
    env = '{"uv": ["a"], "config": {"setup_timeout_seconds": 400}}'
    loaded = loaded_of(worker_runtime_env=env, results=tmp_path / "r.duckdb")
    assert compose.router(loaded, "m:f", 6).start_timeout_s == 300 + 400
    limits = compose.autoscaler(loaded, 6).limits
    assert (limits.pending_limit_s, limits.start_timeout_s) == (120 + 400, 300 + 400)


GPU_NODE = {"NodeID": "n", "Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}, "Labels": {"zone": "a"}}
TYPE_WITH_TWO = [(3, {"CPU": 8.0, "GPU": 2.0})]


@pytest.mark.parametrize(
    ("own", "types", "refused"),
    [
        (
            {"worker_resources": "gpu=2"},
            None,
            "no node offers gpu=2; the largest has 1: a worker asks for cpu=1, gpu=2",
        ),
        ({"worker_resources": "gpu=2"}, TYPE_WITH_TWO, None),
        ({"worker_resources": "gpu=3"}, TYPE_WITH_TWO, "no node or node type offers gpu=3; the largest has 2"),
        ({"worker_resources": "gpu=2", "can_grow_nodes": True}, None, None),  # it may come
        ({"worker_label_selector": "zone=b"}, None, "no node has the labels zone=b"),
        ({"worker_label_selector": "zone=b"}, TYPE_WITH_TWO, None),  # labels of a type are not told
        ({"worker_num_cpus": 9}, None, None),  # a warning: nodes with CPUs join
        ({"worker_resources": "gpu=0.5"}, None, None),
        ({"cpus_for_tasks": 7}, None, None),
        ({"cpus_for_tasks": 7.5}, None, "beside cpus_for_tasks 7.5 the cluster has CPUs for 0 workers of cpu=1, and"),
        ({"cpus_for_tasks": 6, "min_size": 3}, None, "beside cpus_for_tasks 6 the cluster has CPUs for 2 workers"),
        ({"cpus_for_tasks": 99, "can_grow_nodes": True}, None, None),
    ],
)
def test_what_the_cluster_can_never_place_is_refused_at_the_start(
    own: dict[str, object], types: list[tuple[int, dict[str, float]]] | None, refused: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(ray, "nodes", lambda: [GPU_NODE])
    monkeypatch.setattr(inside, "node_types", lambda: types)
    settings = loaded_of(**own).settings
    if refused is None:
        check_room(settings)
        return
    with pytest.raises(ConfigurationError) as said:
        check_room(settings)
    assert str(said.value).startswith(refused)


def test_workers_that_do_not_all_fit_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [GPU_NODE])
    monkeypatch.setattr(inside, "node_types", lambda: None)
    check_room(loaded_of(worker_resources="gpu=0.25", min_size=5).settings)
    assert caplog.messages == [
        "min_size 5 workers of cpu=1, gpu=0.25: the cluster fits 4, short of gpu; some stay pending"
    ]


@pytest.mark.parametrize(
    ("asked", "held", "says"),
    [
        (None, None, "is sized by the autoscaler"),
        (4, 4, "is held at 4 workers"),
        (0, 1, "is held at 1 worker, the nearest to 0 that its min_size and max_size allow"),
        (0, 0, "is held at 0 workers"),
    ],
)
def test_scale_says_what_is_held(asked: int | None, held: int | None, says: str) -> None:
    assert held_text(asked, held) == says


@pytest.mark.parametrize(("workers", "num_cpus"), [(1, 1.0), (3, 0.5), (4, 0.3), (2, 2.0), (8, 0.01)])
def test_a_local_ray_has_room_for_a_worker_in_quarantine_beside_a_full_pool(workers: int, num_cpus: float) -> None:
    left = local_cpus(workers, num_cpus) - workers * num_cpus
    assert left - 3 * SMALL_CPU >= num_cpus, "router, store and autoscaler run there, too"
