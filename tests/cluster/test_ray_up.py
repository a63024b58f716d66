"""`ray up` on three hosts, a job from a user's project, a node that dies in mid-work.

The shortest of what `make test-cluster` runs; `make test` has it at its end, with nothing beside it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.counted_orders import Orders
from tests.kit.host_network import get_json
from tests.kit.ray_up import DASHBOARD_PORT, UpCluster
from tests.kit.transcript import Transcript

pytestmark = [pytest.mark.alone, pytest.mark.timeout("600")]

QUICKER = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_health_check_period_ms": "1000"}
"""Ray looks each second which nodes are missing, and takes a node for dead after 5 s: instead of 5 and 15."""


def test_ray_up_a_job_a_node_that_dies(amqp_url: str, disks: Path, transcript: Transcript) -> None:
    with UpCluster(disks, amqp_url, QUICKER) as cluster:
        transcript.event("ray up")
        cluster.up(with_nodes=False)
        transcript.event("Ray has its head; the job is submitted")
        with pytest.raises(OSError, match="403"):
            get_json(cluster.head, DASHBOARD_PORT, "/api/jobs/", token="not the cluster's")
        orders = Orders(cluster, amqp_url, "order")
        job = orders.submitted(within_s=120)
        transcript.event("both nodes have joined and work")
        killed, other = cluster.nodes
        transcript.event(f"{killed.name}: kill -9 of {len(killed.kill_all_but_ssh())} processes, all but its sshd")
        orders.until(orders.going_on(other), within_s=60, of=job)
        job.end(within_s=180)
        orders.assert_all_there()
        twice, elsewhere = orders.run_twice(), orders.run_twice(but_for=killed)
        transcript.event(f"{orders.count} orders: 0 lost, doubled, charged; {twice} ran twice, all on {killed.name}")
        assert not elsewhere
