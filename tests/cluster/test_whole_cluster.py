"""What may befall a cluster of several machines while it works: each test one fault, on one cluster that stays up.

Orders lost, rows doubled, runs charged are 0 each time. How long it takes until there is work again is told in a table,
and asserted at twice of what is promised: the hosts share the cores of one machine. A host that is cut off, frozen or
killed may have run handlers whose orders run again elsewhere: the table tells how many, and that no others did.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rabbitray.cluster.broker import PrivateBroker
from tests.kit.command_process import ready
from tests.kit.counted_orders import Orders
from tests.kit.eventually import eventually_sync
from tests.kit.host_network import in_network_of
from tests.kit.hosts import Host
from tests.kit.ray_up import Submitted, UpCluster
from tests.kit.spot_metadata import spot_metadata
from tests.kit.transcript import Transcript

pytestmark = [pytest.mark.whole_cluster, pytest.mark.timeout("900")]

BROKER_S, CUT_S, NODE_S, JOB_S, HEAD_S = 15, 60, 60, 60, 120
"""Within so many seconds there is work again: after the broker answers, the plug is in, the node is back, ..."""
AN_HOUR_S = 3600


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateBroker]:
    """One that may be killed."""
    with PrivateBroker() as node:
        yield node


@pytest.fixture(scope="module")
def started(lasting_disks: Path, broker: PrivateBroker, transcript: Transcript) -> Iterator[UpCluster]:
    with UpCluster(lasting_disks, broker.url) as cluster:
        transcript.columns()
        transcript.event("ray up")
        cluster.up()
        transcript.event(f"Ray has {sorted(cluster.alive())}")
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


class Trial:
    """One fault: what it does to the cluster is told as it happens, and what came of it at the end."""

    def __init__(self, cluster: UpCluster, orders: Orders, transcript: Transcript) -> None:
        self.cluster, self.orders, self._transcript = cluster, orders, transcript
        self.say = transcript.event
        self.node, self.other = cluster.nodes

    def submitted(self, how: str = "--until-empty") -> Submitted:
        """A job that works on both nodes."""
        job = self.orders.submitted(within_s=2 * JOB_S, how=how)
        self.say(f"{self.orders.name}: the job works on both nodes")
        return job

    def end(self, job: Submitted, fault: str, after_s: float, at_most_s: float, *, on: Host | None = None) -> None:
        """The job ends by itself, each order has its row. `on`: the host that could not tell what it had run."""
        self.say(f"{self.orders.name}: work again after {after_s:.1f} s")
        job.end(within_s=300)
        self.tell(job, fault, after_s, at_most_s, on=on)

    def stop(self, job: Submitted, fault: str, after_s: float, at_most_s: float) -> None:
        """The same for a job that does not end by itself."""
        eventually_sync(lambda: sum(self.orders.finished().values()) >= self.orders.count, within_s=60)
        self.cluster.stop(job)
        self.tell(job, fault, after_s, at_most_s)

    def tell(self, job: Submitted, fault: str, after_s: float, at_most_s: float, *, on: Host | None = None) -> None:
        """A row of the table, once no pool runs; each order must have its row in the results."""
        self.orders.assert_all_there()
        for line in job.log().splitlines():
            if re.match("[0-9,]+ done, ", line):
                self.say(f"{self.orders.name}: the job says: {line}")
        twice, elsewhere = self.orders.run_twice(), self.orders.run_twice(but_for=on)
        lines = len(job.log().splitlines())
        self._transcript.row(fault, after_s, at_most_s, self.orders.count, "0, 0, 0", twice, elsewhere, lines)
        assert after_s < 2 * at_most_s


@pytest.fixture
def trial(cluster: UpCluster, orders: Orders, transcript: Transcript) -> Trial:
    return Trial(cluster, orders, transcript)


@pytest.mark.parametrize("seconds", [5, 60])
def test_cut_off(trial: Trial, seconds: int) -> None:
    node, orders, job = trial.node, trial.orders, trial.submitted()
    trial.say(f"{node.name} is cut off for {seconds} s")
    trial.cluster.hosts.cut(node)
    orders.work_for(seconds, of=job)
    trial.cluster.hosts.plug(node)
    after_s = orders.until(orders.going_on(node), within_s=2 * CUT_S, of=job)
    trial.end(job, f"node cut off for {seconds} s", after_s, CUT_S, on=node)
    assert not orders.run_twice(but_for=node)


def test_frozen(trial: Trial) -> None:
    node, orders, job = trial.node, trial.orders, trial.submitted()
    trial.say(f"{node.name} stands still for 30 s")
    node.freeze()
    orders.work_for(30, of=job)
    node.thaw()
    after_s = orders.until(orders.going_on(node), within_s=2 * NODE_S, of=job)
    trial.end(job, "node frozen for 30 s", after_s, NODE_S, on=node)
    assert not orders.run_twice(but_for=node)


def test_killed(trial: Trial) -> None:
    """Ray's autoscaler on the head starts it again by ssh."""
    node, orders, job = trial.node, trial.orders, trial.submitted()
    trial.say(f"{node.name}: kill -9 of {len(node.kill_all_but_ssh())} processes, all but its sshd")
    orders.until(lambda: node.address not in trial.cluster.alive(), within_s=60, of=job)
    trial.say(f"{node.name} is dead for Ray")
    orders.until(lambda: node.address in trial.cluster.alive(), within_s=120, of=job)
    trial.say(f"{node.name} is back in Ray")
    after_s = orders.until(orders.going_on(node), within_s=2 * NODE_S, of=job)
    trial.end(job, "node killed, back in Ray", after_s, NODE_S, on=node)
    assert not orders.run_twice(but_for=node)


def test_drained(trial: Trial) -> None:
    """By the notice of a cloud that takes the machine back. It leaves Ray in order; the autoscaler starts it again."""
    node, orders, job = trial.node, trial.orders, trial.submitted()
    with spot_metadata(in_network_of(node, lambda: socket.create_server(("127.0.0.1", 0)))) as cloud:
        waiting = trial.cluster.wait_for_notice(node, cloud.url)
        orders.until(lambda: cloud.asked > 0, within_s=30, of=job)
        cloud.takes_back_at = (datetime.now(UTC) + timedelta(seconds=40)).isoformat()
        trial.say(f"{node.name}: its cloud gives notice, 40 s before it takes the machine back")
        orders.until(lambda: waiting.process.poll() is not None, within_s=60, of=job)
    waiting.end(within_s=1)
    trial.say(f"{node.name} drains")
    orders.until(lambda: node.address not in trial.cluster.alive(), within_s=90, of=job)
    after_s = orders.until(orders.going_on(trial.other), within_s=2 * NODE_S, of=job)
    trial.end(job, "node drained", after_s, NODE_S)
    assert not orders.run_twice(), "what a draining node had begun, it finished"


def test_submitted_when_only_the_head_was_there(trial: Trial) -> None:
    """The pool takes each machine in that comes later, however few there were when it began."""
    cluster, orders = trial.cluster, trial.orders
    for node in cluster.nodes:
        node.power_off()
    for node in cluster.nodes:
        cluster.until_dead(node, within_s=90)
    trial.say("both nodes are off; the job is submitted with the head alone")
    job = cluster.submit("--until-empty")
    size = eventually_sync(lambda: status(cluster).get("size"), within_s=JOB_S, message="no pool")
    assert size["had"] == 0
    assert size["possible"] <= 1, "the one that waits for a place"
    trial.say(f"status: {size['had']} workers, {size['wanted']} wanted, {size['possible']} possible")
    for node in (trial.node, trial.other):
        cluster.hosts.join(node.boot())
        trial.say(f"{node.name} is switched on")
        orders.until(lambda node=node: node.address in cluster.alive(), within_s=180, of=job)
        trial.say(f"{node.name} is in Ray")
        after_s = orders.until(orders.going_on(node), within_s=2 * NODE_S, of=job)
        trial.say(f"{orders.name}: {node.name} works after {after_s:.1f} s")
    trial.end(job, "submitted with the head alone, the second node joined late", after_s, NODE_S)


def test_broker_restarted(trial: Trial, broker: PrivateBroker) -> None:
    orders, job = trial.orders, trial.submitted()
    trial.say("RabbitMQ: kill -9")
    broker.kill()
    time.sleep(5)
    broker.start()
    after_s = orders.until(orders.going_on(), within_s=2 * BROKER_S, of=job)
    trial.end(job, "broker killed and started", after_s, BROKER_S)


@pytest.mark.parametrize("seconds", [20, 40])
def test_link_to_the_broker_cut(trial: Trial, seconds: int) -> None:
    """A connection outlasts 20 s, not 40 s. What was done before is not done again: a worker asks for its row."""
    orders, job = trial.orders, trial.submitted()
    link = trial.cluster.broker_link
    trial.say(f"the link from the cluster to RabbitMQ is cut for {seconds} s")
    link.cut()
    orders.work_for(seconds, of=job)
    link.plug()
    after_s = orders.until(orders.going_on(), within_s=2 * CUT_S, of=job)
    trial.end(job, f"link to the broker cut for {seconds} s", after_s, CUT_S)
    assert not orders.run_twice()


def test_job_stopped(trial: Trial, broker: PrivateBroker) -> None:
    """What it held is back in the queue, and the next job goes on."""
    cluster, orders, job = trial.cluster, trial.orders, trial.submitted()
    trial.say("ray job stop")
    cluster.stop(job)
    trial.say("the job has ended; it is submitted again")
    rows = cluster.rows(f"SELECT count(*) AS n FROM results WHERE key LIKE '{orders.name}-%'")[0]["n"]
    assert rows + ready(broker.url, "orders") == orders.count
    again = cluster.submit("--until-empty --initial-size 4")
    after_s = orders.until(orders.going_on(), within_s=2 * JOB_S, of=again)
    trial.end(again, "job stopped and submitted anew", after_s, JOB_S)
    assert not orders.run_twice(), "what was in flight at the stop was finished"


def test_what_else_the_sample_names_works(trial: Trial) -> None:
    """`status`, and the results on the laptop, both while the pool runs."""
    cluster, orders, job = trial.cluster, trial.orders, trial.submitted(how="")
    assert "orders" in cluster.type("ray exec local.yaml 'rabbitray status", within_s=120)
    eventually_sync(lambda: sum(orders.finished().values()) >= orders.count, within_s=60, message="all is worked")
    eventually_sync(partial(exported_all, cluster, orders), within_s=120, message="all is exported")
    trial.say(f"{orders.count} results are on the laptop")
    cluster.stop(job)
    orders.assert_all_there()


def test_head_killed(trial: Trial) -> None:
    """Driver, router and store go with it; after `ray up` a new job goes on from the queue and the same file."""
    cluster, orders = trial.cluster, trial.orders
    trial.submitted()
    trial.say(f"head: kill -9 of {len(cluster.head.kill_all_but_ssh())} processes, all but its sshd; then ray up")
    began = time.monotonic()
    cluster.up()
    trial.say("all nodes are in Ray; the job is submitted again")
    job = cluster.submit("--until-empty --initial-size 4")
    orders.until(orders.going_on(), within_s=2 * HEAD_S, of=job)
    trial.end(job, "head's processes killed, `ray up`, job anew", time.monotonic() - began, HEAD_S)


def test_clock_off(trial: Trial) -> None:
    """By an hour: the times in its rows are those of the head's clock, `status` says so, and nothing waits for it.

    They are as right as the quickest of some answers was quick, on two cores that start four workers.
    """
    node, cluster, orders = trial.node, trial.cluster, trial.orders
    trial.say(f"{node.name} is switched off")
    node.power_off()
    cluster.until_dead(node, within_s=90)
    node.clock_s = AN_HOUR_S
    cluster.hosts.join(node.boot())
    cluster.until_alive(node, within_s=180)
    trial.say(f"{node.name} was switched on, its clock is an hour ahead")
    job = trial.submitted(how="")
    after_s = orders.until(orders.going_on(node), within_s=2 * NODE_S, of=job)
    [warning] = [line for line in status(cluster)["warnings"] if f"the clock of node {node.name}" in line]
    trial.say(f"status: {warning}")
    trial.stop(job, "clock of a node an hour ahead", after_s, NODE_S)
    assert not orders.run_twice()
    [row] = cluster.rows(f"""
        SELECT count(*) AS n, count(*) FILTER (received_at <= started_at + INTERVAL 200 MILLISECONDS
                                               AND started_at <= finished_at
                                               AND finished_at <= committed_at + INTERVAL 200 MILLISECONDS) AS in_order
        FROM results WHERE key LIKE '{orders.name}-%' AND result->>'host' = '{node.name}'""")
    assert row["n"] == row["in_order"] > 0


def test_down(cluster: UpCluster, transcript: Transcript) -> None:
    """Last of all: Ray's processes on the head are gone at once, those on the nodes after they missed it."""
    transcript.event("ray down")
    began = time.monotonic()
    cluster.down()
    assert not cluster.head.running("raylet")
    for node in cluster.nodes:
        eventually_sync(partial(gone, node), within_s=180, message=f"Ray on {node.name}")
    transcript.event(f"no raylet anywhere, {time.monotonic() - began:.0f} s after `ray down` was typed")


def status(cluster: UpCluster) -> dict[str, Any]:
    """`rabbitray status --json` on the head; empty while no pool runs."""
    told = cluster.on_head("status --queue orders --json")
    found: dict[str, Any] = json.loads(told) if told.startswith("{") else {}
    return found


def exported_all(cluster: UpCluster, orders: Orders) -> bool:
    """Whether an export that comes to the laptop has all results of these orders."""
    cluster.type("ray exec local.yaml 'rabbitray export", within_s=120)
    cluster.type("ray rsync-down", within_s=120)
    (file,) = (cluster.project / "export").rglob("results.parquet")
    keys = pq.read_table(file, columns=["key"])["key"].to_pylist()
    return sum(key.startswith(f"{orders.name}-") for key in keys) == orders.count


def gone(node: Host) -> bool:
    return not node.running("raylet")
