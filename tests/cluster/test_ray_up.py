"""`ray up` on three hosts, a job from a user's project, a node that dies in mid-work, `ray down`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.counted_orders import Orders
from tests.kit.host_network import get_json
from tests.kit.ray_up import DASHBOARD_PORT, UpCluster

pytestmark = [pytest.mark.whole_cluster, pytest.mark.timeout("600")]


def test_ray_up_a_job_a_node_that_dies_ray_down(amqp_url: str, disks: Path) -> None:
    with UpCluster(disks, amqp_url) as cluster:
        cluster.up()
        with pytest.raises(OSError, match="403"):
            get_json(cluster.head, DASHBOARD_PORT, "/api/jobs/", token="not the cluster's")
        orders = Orders(cluster, amqp_url, "order")
        job = orders.submitted(within_s=90)
        assert cluster.nodes[0].kill_all_but_ssh()
        orders.until(orders.going_on(cluster.nodes[1]), within_s=60, of=job)
        job.end(within_s=120)
        orders.assert_all_there()
        cluster.down()
        assert not cluster.alive()
