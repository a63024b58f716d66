"""What `check` says of the nodes' versions, and of the broker of a running pool."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.remote.node_versions import NodeVersions
from rabbitray.actors.router.report import RouterReport
from rabbitray.cluster.operate import doctor_ray
from rabbitray.cluster.operate.doctor_ray import versions
from rabbitray.cluster.operate.running_pool import RunningPool
from rabbitray.cluster.settings import load
from tests.kit.pool_status import QUIET_REPORT

HERE = NodeVersions.here()


def told(monkeypatch: pytest.MonkeyPatch, found: dict[str, NodeVersions], silent: set[str]) -> list[tuple[str, str]]:
    monkeypatch.setattr(doctor_ray, "node_versions", lambda within_s: (found, silent))
    return [(row.level, row.text) for row in versions()]


def test_nodes_that_are_alike_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    [(level, text)] = told(monkeypatch, {"a": HERE, "b": HERE}, set())
    assert (level, text) == ("ok", f"all 2 nodes that answer have {HERE}")


@pytest.mark.parametrize("other", [NodeVersions("2.1.0", HERE.python), NodeVersions(HERE.ray, "3.9")])
def test_a_node_with_another_ray_or_python_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, other: NodeVersions
) -> None:
    rows = told(monkeypatch, {"head": HERE, "w2": other, "w1": other}, {"w3"})
    assert [level for level, _ in rows] == ["refuse", "warn"]
    assert rows[0][1] == f"2 nodes have {other}, and this process {HERE}: w1, w2"
    assert "w3" in rows[1][1]


@pytest.mark.parametrize(
    ("report", "level", "says"),
    [
        (QUIET_REPORT, "ok", "RABBITMQ_URL is not set here; the pool is connected to 127.0.0.1:5672/"),
        (replace(QUIET_REPORT, connected=False), "warn", "is not connected now; it was last to 127.0.0.1:5672/"),
        (RabbitrayError("the router is silent"), "warn", "the router is silent"),
    ],
)
def test_the_pool_is_asked_for_its_broker_where_this_machine_knows_of_none(
    monkeypatch: pytest.MonkeyPatch, report: RouterReport | RabbitrayError, level: str, says: str
) -> None:
    def answer(pool: RunningPool, *, within_s: float) -> RouterReport:
        if isinstance(report, RabbitrayError):
            raise report
        return report

    monkeypatch.setattr(RunningPool, "report", answer)
    row = doctor_ray._broker(load({}, {}, None))
    assert row is not None
    assert row.level == level
    assert says in row.text
    assert doctor_ray._broker(load({}, {"RABBITMQ_URL": "amqp://127.0.0.1:1/"}, None)) is None
