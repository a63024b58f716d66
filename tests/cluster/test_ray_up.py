"""`ray up` on three hosts, a job from a user's project, a node that dies in mid-work, `ray down`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.counted_orders import assert_all_there, busy_hosts
from tests.kit.ray_up import UpCluster

pytestmark = pytest.mark.timeout("600")
COUNT = 250


def test_ray_up_a_job_a_node_that_dies_ray_down(amqp_url: str, disks: Path) -> None:
    with UpCluster(disks, amqp_url) as cluster:
        cluster.up()
        cluster.publish("order", COUNT, 0.05)
        job = cluster.submit("--until-empty --initial-size 4")
        job.until(lambda: busy_hosts(cluster, "order") == {"node1", "node2"}, within_s=90)
        assert cluster.nodes[0].kill_all_but_ssh()
        left = len(cluster.ran("order")["node2"])
        job.end(within_s=120)
        assert len(cluster.ran("order")["node2"]) > left, "the other node went on"
        assert_all_there(cluster, "order", COUNT)
        cluster.down()
        assert not cluster.alive()
