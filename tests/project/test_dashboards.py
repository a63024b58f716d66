"""The dashboards are what the table of measurements makes, and name nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rabbitray.actors.telemetry import kpi
from rabbitray.cluster.deploy.grafana import generate
from rabbitray.cluster.deploy.prometheus import expressions

FOLDER = Path(generate.__file__).parent
ALERTS = Path(expressions.__file__).parent / "alerts.yml"
NAME = re.compile(r"ray_rabbitray_\w+")


@pytest.mark.parametrize("name", list(generate.files()))
def test_a_dashboard_is_what_the_table_makes(name: str) -> None:
    assert (FOLDER / name).read_text() == generate.files()[name], "run its module"


@pytest.mark.parametrize("name", list(generate.files()))
def test_a_dashboard_follows_rays_conventions(name: str) -> None:
    board: dict[str, Any] = json.loads((FOLDER / name).read_text())
    variables = {one["name"] for one in board["templating"]["list"]}
    assert {"datasource", "SessionName", "Instance", "Cluster"} <= variables
    assert board["schemaVersion"] == 27
    places = [panel["gridPos"] for panel in board["panels"]]
    assert {(place["w"], place["h"]) for place in places} == {(12, 8)}
    assert len({(place["x"], place["y"]) for place in places}) == len(places)
    assert len({panel["id"] for panel in board["panels"]}) == len(places)
    for target in (target for panel in board["panels"] for target in panel["targets"]):
        assert 'SessionName=~"$SessionName"' in target["expr"]
        assert 'ray_io_cluster=~"$Cluster"' in target["expr"]


def test_dashboards_and_alerts_name_only_what_the_table_holds() -> None:
    """And `test_metrics_export` shows that a running pool exports all of the table."""
    known = {one.prometheus + end for one in kpi.TABLE.values() for end in ("", "_bucket", "_sum", "_count")}
    texts = [*generate.files().values(), ALERTS.read_text()]
    named = {name for text in texts for name in NAME.findall(text)}
    assert named <= known
    shown = {one.name for one in kpi.TABLE.values() if any(one.prometheus in text for text in texts[:2])}
    assert shown == set(kpi.TABLE)
