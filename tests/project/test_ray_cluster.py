"""What we give for `ray up` is what it accepts, and opens nothing that it should not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rabbitray.cluster.deploy.spot import notice
from rabbitray.cluster.settings import load
from tests.kit.root import ROOT

AWS, OWN = ROOT / "ray-cluster.yaml", ROOT / "cluster/deploy/local.yaml"


@pytest.fixture(params=[AWS, OWN], ids=["aws", "own"])
def file(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def loaded(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found


@pytest.fixture
def config(file: Path) -> dict[str, Any]:
    return loaded(file)


def test_it_passes_rays_own_schema_check(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


def test_a_wrong_key_would_be_noticed(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(Exception, match="no_such_key"):
        validate_config(prepare_config(config | {"no_such_key": 1}))


def test_every_node_uses_the_token_and_the_dashboard_stays_on_loopback(config: dict[str, Any]) -> None:
    head, worker = (config[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker"))
    assert "--dashboard-host=127.0.0.1" in head
    profile = config["setup_commands"][-1]  # of each shell on a node, those of `ray up` included
    assert all("RAY_AUTH_MODE=token" in command + profile for command in (head, worker))
    assert "0.0.0.0" not in head + worker


def test_the_pool_is_told_that_nodes_may_come() -> None:
    """The driver is a child of the head's Ray, by `ray job submit`, or of a shell there."""
    config = loaded(AWS)
    for command in (config["head_start_ray_commands"][-1], config["setup_commands"][-1]):
        (value,) = re.findall(r"RABBITRAY_CAN_GROW_NODES=(\w+)", command)
        assert load({}, {"RABBITRAY_CAN_GROW_NODES": value}, None).settings.can_grow_nodes


def test_machines_of_ones_own_come_through_the_older_autoscaler() -> None:
    """The newer one takes the head for a worker and leaves a machine out; a command's own setting is the last word."""
    assert "RAY_enable_autoscaler_v2=0" in loaded(OWN)["head_start_ray_commands"][-1]


def test_the_folder_of_the_results_is_made(config: dict[str, Any], file: Path) -> None:
    assert "--results /data/" in file.read_text()
    assert any(" /data" in command for command in config["head_setup_commands"])


def test_nothing_is_installed_into_the_systems_python(file: Path) -> None:
    assert "pip install --user" not in file.read_text()


def test_the_values_to_be_filled_in_are_marked_and_counted(file: Path) -> None:
    text = file.read_text()
    number = {AWS: 3, OWN: 4}[file]
    assert text.count("# change: ") == number
    assert f"Fill in the {['three', 'four'][number - 3]} values" in text


def test_nodes_are_found_by_their_labels() -> None:
    """`ray up` gives the labels of a node type to its nodes, but for machines of one's own, where the command does."""
    types = loaded(AWS)["available_node_types"]
    groups = {"head": "head", "worker": "pool", "gpu": "gpu"}
    assert {name: one["labels"]["ray.io/node-group"] for name, one in types.items()} == groups
    markets = {name: one["labels"]["ray.io/market-type"] for name, one in types.items()}
    spot = {name: "InstanceMarketOptions" in one["node_config"] for name, one in types.items()}
    assert {name: market == "spot" for name, market in markets.items()} == spot
    own = loaded(OWN)
    assert "--labels=ray.io/node-group=head" in own["head_start_ray_commands"][-1]
    assert "--labels=ray.io/node-group=pool" in own["worker_start_ray_commands"][-1]


def test_a_spot_node_is_drained_when_its_cloud_gives_notice() -> None:
    install = " ".join(loaded(AWS)["worker_setup_commands"])
    assert f"-m {notice.__name__} --unit" in install
    assert "systemctl enable --now rabbitray-spot" in install


def test_no_secret_is_in_the_file(file: Path) -> None:
    assert not [url for url in re.findall(r"amqps?://\S+", file.read_text()) if "user:password@broker" not in url]
