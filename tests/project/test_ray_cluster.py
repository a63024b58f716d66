"""`ray-cluster.yaml` is what `ray up` accepts, and opens nothing that it should not."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from rabbitray.cluster.settings import load
from tests.kit.root import ROOT

FILE = ROOT / "ray-cluster.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


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
    assert all("RAY_AUTH_MODE=token" in command for command in (head, worker))
    assert "0.0.0.0" not in head + worker


def test_the_pool_is_told_that_nodes_may_come(config: dict[str, Any]) -> None:
    """The driver is a child of the head's Ray, by `ray job submit`, or of a shell there."""
    for command in (config["head_start_ray_commands"][-1], config["setup_commands"][-1]):
        (value,) = re.findall(r"RABBITRAY_CAN_GROW_NODES=(\w+)", command)
        assert load({}, {"RABBITRAY_CAN_GROW_NODES": value}, None).settings.can_grow_nodes


def test_no_secret_is_in_the_file() -> None:
    assert "amqp://" not in FILE.read_text()
    assert "amqps://" not in FILE.read_text()
