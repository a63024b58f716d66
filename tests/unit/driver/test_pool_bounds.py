"""How large a pool may be: the settings for clusters that grow, what `scale` and a restart are held to."""

from __future__ import annotations

from pathlib import Path

import pytest

from rabbitray.actors.errors import ConfigurationError
from rabbitray.autoscale.policy.signals import START_MARGIN_S
from rabbitray.cluster.commands.scale import held_text
from rabbitray.cluster.driver import compose
from rabbitray.cluster.driver.actors import SMALL_CPU
from rabbitray.cluster.driver.session import MOST_WORKERS, local_cpus, most_workers
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
    assert most_workers(1.0, cpus=1.0, can_grow=False) == 1
    assert most_workers(1.0, cpus=1.0, can_grow=True) == MOST_WORKERS
    assert most_workers(2.0, cpus=9.0, can_grow=False) == 4


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
