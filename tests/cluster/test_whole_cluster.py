"""What may befall a cluster of several machines while it works: each test one fault, on one cluster that stays up.

Orders lost, rows doubled, runs charged are 0 each time. How long it takes until there is work again is told in a table,
and asserted at twice of what is promised. A node that is cut off, frozen or killed may have run handlers whose orders
run again elsewhere: the table tells how many.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rabbitray.cluster.broker import PrivateBroker
from tests.kit.command_process import ready
from tests.kit.counted_orders import Orders
from tests.kit.eventually import eventually_sync
from tests.kit.hosts import Host
from tests.kit.ray_up import Submitted, UpCluster

pytestmark = [pytest.mark.whole_cluster, pytest.mark.timeout("900")]

BROKER_S, CUT_S, NODE_S, JOB_S, HEAD_S = 15, 60, 60, 60, 120
"""Within so many seconds there is work again: after the broker answers, the plug is in, the node is back, ..."""

Tell = Callable[[str, float, Orders, Submitted], None]


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateBroker]:
    """One that may be killed."""
    with PrivateBroker() as node:
        yield node


@pytest.fixture(scope="module")
def started(lasting_disks: Path, broker: PrivateBroker) -> Iterator[UpCluster]:
    with UpCluster(lasting_disks, broker.url) as cluster:
        cluster.up()
        yield cluster


@pytest.fixture
def cluster(started: UpCluster) -> UpCluster:
    """With all its nodes, whatever the test before did."""
    started.until_alive(started.head, *started.nodes, within_s=2 * NODE_S)
    return started


@pytest.fixture
def orders(cluster: UpCluster, broker: PrivateBroker, request: pytest.FixtureRequest) -> Orders:
    """Of this test."""
    name = re.sub(r"\W+", "", request.node.name.removeprefix("test_").replace("_", ""))
    return Orders(cluster, broker.url, name)


@pytest.fixture(scope="module")
def tell(request: pytest.FixtureRequest) -> Tell:
    """Writes a row of the table at once, so that a run that is ended early has told what it knew."""
    plugins = request.config.pluginmanager
    reporter, capture = plugins.getplugin("terminalreporter"), plugins.getplugin("capturemanager")

    def write(row: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(f"| {row} |", flush=True)

    write("fault | work again after s | orders | lost, doubled, charged | handlers run twice | lines of the job's log")
    return lambda fault, after_s, orders, job: write(
        f"{fault} | {after_s:.1f} | {orders.count} | 0, 0, 0 | {orders.run_twice()} | {len(job.log().splitlines())}"
    )


def ended(job: Submitted, orders: Orders) -> None:
    job.end(within_s=300)
    orders.assert_all_there()


@pytest.mark.parametrize("seconds", [5, 60])
def test_cut_off(cluster: UpCluster, orders: Orders, tell: Tell, seconds: int) -> None:
    node = cluster.nodes[0]
    job = orders.submitted(within_s=2 * JOB_S)
    cluster.hosts.cut(node)
    orders.work_for(seconds, of=job)
    cluster.hosts.plug(node)
    after_s = orders.until(orders.going_on(node), within_s=2 * CUT_S, of=job)
    ended(job, orders)
    tell(f"node cut off for {seconds} s", after_s, orders, job)


def test_frozen(cluster: UpCluster, orders: Orders, tell: Tell) -> None:
    node = cluster.nodes[0]
    job = orders.submitted(within_s=2 * JOB_S)
    node.freeze()
    orders.work_for(30, of=job)
    node.thaw()
    after_s = orders.until(orders.going_on(node), within_s=2 * NODE_S, of=job)
    ended(job, orders)
    tell("node frozen for 30 s", after_s, orders, job)


def test_killed(cluster: UpCluster, orders: Orders, tell: Tell) -> None:
    """Ray's autoscaler on the head starts it again by ssh."""
    node = cluster.nodes[0]
    job = orders.submitted(within_s=2 * JOB_S)
    node.kill_all_but_ssh()
    orders.until(lambda: node.address not in cluster.alive(), within_s=60, of=job)
    orders.until(lambda: node.address in cluster.alive(), within_s=120, of=job)
    after_s = orders.until(orders.going_on(node), within_s=2 * NODE_S, of=job)
    ended(job, orders)
    tell("node killed, back in Ray", after_s, orders, job)


def test_drained(cluster: UpCluster, orders: Orders, tell: Tell) -> None:
    """It leaves Ray in order; the autoscaler starts it again."""
    node = cluster.nodes[0]
    job = orders.submitted(within_s=2 * JOB_S)
    cluster.drain(node, deadline_s=20)
    orders.until(lambda: node.address not in cluster.alive(), within_s=90, of=job)
    after_s = orders.until(orders.going_on(cluster.nodes[1]), within_s=2 * NODE_S, of=job)
    ended(job, orders)
    assert not orders.run_twice(), "what a draining node had begun, it finished"
    tell("node drained", after_s, orders, job)


def test_joins_late(cluster: UpCluster, orders: Orders, tell: Tell) -> None:
    """A machine that was off when the job was submitted."""
    first, late = cluster.nodes
    late.power_off()
    cluster.until_dead(late, within_s=90)
    job = cluster.submit("--until-empty")
    orders.until(orders.going_on(first), within_s=2 * JOB_S, of=job)
    cluster.hosts.join(late.boot())
    orders.until(lambda: late.address in cluster.alive(), within_s=180, of=job)
    after_s = orders.until(orders.going_on(late), within_s=2 * NODE_S, of=job)
    ended(job, orders)
    tell("node joins late", after_s, orders, job)


def test_broker_restarted(cluster: UpCluster, orders: Orders, broker: PrivateBroker, tell: Tell) -> None:
    job = orders.submitted(within_s=2 * JOB_S)
    broker.kill()
    time.sleep(5)
    broker.start()
    after_s = orders.until(orders.going_on(), within_s=2 * BROKER_S, of=job)
    ended(job, orders)
    tell("broker killed and started", after_s, orders, job)


def test_job_stopped(cluster: UpCluster, orders: Orders, broker: PrivateBroker, tell: Tell) -> None:
    """What it held is back in the queue, and the next job goes on."""
    job = orders.submitted(within_s=2 * JOB_S)
    cluster.stop(job)
    rows = cluster.rows(f"SELECT count(*) AS n FROM results WHERE key LIKE '{orders.name}-%'")[0]["n"]
    assert rows + ready(broker.url, "orders") == orders.count
    again = cluster.submit("--until-empty --initial-size 4")
    after_s = orders.until(orders.going_on(), within_s=2 * JOB_S, of=again)
    ended(again, orders)
    assert not orders.run_twice(), "what was in flight at the stop was finished"
    tell("job stopped and submitted anew", after_s, orders, again)


def test_head_killed(cluster: UpCluster, orders: Orders, tell: Tell) -> None:
    """Driver, router and store go with it; after `ray up` a new job goes on from the queue and the same file."""
    orders.submitted(within_s=2 * JOB_S)
    cluster.head.kill_all_but_ssh()
    began = time.monotonic()
    cluster.up()
    job = cluster.submit("--until-empty --initial-size 4")
    orders.until(orders.going_on(), within_s=2 * HEAD_S, of=job)
    after_s = time.monotonic() - began
    assert after_s < 2 * HEAD_S
    ended(job, orders)
    tell("head's processes killed, `ray up`, job submitted anew", after_s, orders, job)


def test_what_else_the_sample_names_works(cluster: UpCluster, orders: Orders) -> None:
    """`status`, and the results on the laptop, both while the pool runs."""
    job = orders.submitted(within_s=2 * JOB_S, how="")
    status = cluster.type("ray exec local.yaml 'rabbitray status")
    assert "orders" in status, status
    eventually_sync(lambda: sum(orders.finished().values()) >= orders.count, within_s=60, message="all is worked")
    eventually_sync(lambda: _exported(cluster, orders) == orders.count, within_s=60, message="all is exported")
    cluster.stop(job)
    orders.assert_all_there()


def _exported(cluster: UpCluster, orders: Orders) -> int:
    """How many results of these orders came to the laptop."""
    cluster.type("ray exec local.yaml 'rabbitray export")
    cluster.type("ray rsync-down")
    (file,) = (cluster.project / "export").rglob("results.parquet")
    keys = pq.read_table(file, columns=["key"])["key"].to_pylist()
    return sum(key.startswith(f"{orders.name}-") for key in keys)


def test_down(cluster: UpCluster) -> None:
    """Last of all: Ray's processes on the head are gone at once, those on the nodes after they missed it."""
    cluster.down()
    assert not cluster.head.running("raylet")
    for node in cluster.nodes:
        eventually_sync(partial(gone, node), within_s=180, message=f"Ray on {node.name}")


def gone(node: Host) -> bool:
    return not node.running("raylet")
