"""A RabbitMQ cluster of three private nodes on loopback, whose nodes a test may kill, stop, freeze and cut off."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import quote

from rabbitray.cluster.broker import PrivateBroker, guardian, layout
from rabbitray.cluster.broker.programs import Programs, programs
from tests.kit.eventually import eventually_sync
from tests.kit.stopping import stop

NODES: Final = 3
# What a frozen node is to the others, they find out after 10 s at most, not 75.
CONFIGURATION: Final = "net_ticktime = 8\n"


class BrokerCluster:
    """Three running nodes; a test leaves them all running."""

    def __init__(self, nodes: Sequence[PrivateBroker], cookie: str) -> None:
        self.nodes = list(nodes)
        self._cookie = cookie

    @property
    def version(self) -> str:
        """RabbitMQ's version."""
        return self.nodes[0].version

    def urls(self, vhost: str, order: Sequence[PrivateBroker] | None = None) -> str:
        """Addresses of a vhost, one for each node, as RABBITMQ_URL takes them: the first is connected to."""
        return " ".join(f"{node.url}{quote(vhost, safe='')}" for node in order or self.nodes)

    def add_vhost(self, name: str) -> None:
        """In which `guest` may do everything, on each node. One whose start is not complete never gets to know of it
        (3.10.8), although it runs and listens by then.
        """
        self._each(lambda node: node.ctl("await_startup"))
        self.nodes[0].add_vhost(name)
        eventually_sync(lambda: all(self._has_vhost(node, name) for node in self.nodes), message=f"no {name}")

    def leader(self, vhost: str, queue: str, ask: PrivateBroker | None = None) -> PrivateBroker:
        """Where the leader of a quorum queue with a member on each node is."""

        def found() -> PrivateBroker | None:
            said = self._queue(ask or self.nodes[0], vhost, queue)
            if len(said.get("online", ())) < NODES:
                return None
            return next((node for node in self.nodes if node.name == said.get("leader")), None)

        node = eventually_sync(found, message=f"{queue} has no leader, or less than {NODES} members")
        assert node is not None
        return node

    def has_queue(self, vhost: str, queue: str) -> bool:
        """Whether any node knows of it; each must answer."""
        path = f"/api/queues/{quote(vhost, safe='')}?columns=name"
        told: list[Any] = [node.api("GET", path) for node in self.nodes]
        return any(one["name"] == queue for names in told for one in names)

    def start(self, *nodes: PrivateBroker) -> None:
        """Starts nodes side by side: where most are down none is ready before the others."""
        self._each(lambda node: node.start(), nodes)

    def freeze(self, node: PrivateBroker) -> None:
        """SIGSTOP: its connections stay open, and nothing answers."""
        stop(node.pid)

    def given_up(self, node: PrivateBroker) -> bool:
        """Whether the others say that it is down."""
        return all(_runs(other, node) is False for other in self.nodes if other is not node)

    def wake(self, node: PrivateBroker) -> bool:
        """SIGCONT; whether it is apart from the others then. Before RabbitMQ 4.3 one that they have given up does not
        find back, as its operator sees in the partitions that it tells of.
        """
        os.kill(node.pid, signal.SIGCONT)
        return eventually_sync(lambda: self._joined_or_apart(node), within_s=60) == "apart"

    def thaw(self, node: PrivateBroker) -> None:
        """Wakes it; one that is apart is started again."""
        if self.wake(node):
            node.restart()

    def cut_off(self, node: PrivateBroker) -> None:
        """Parts a node from the others, clients reach each: both sides are refused, since the cookie is another."""
        calls = (f"erlang:set_cookie('{other}', apart), erlang:disconnect_node('{other}')" for other in self._but(node))
        node.ctl("eval", f"{', '.join(calls)}.", within_s=180)

    def join_again(self, node: PrivateBroker) -> None:
        """Ends `cut_off`."""
        calls = (
            f"erlang:set_cookie('{other}', '{self._cookie}'), net_kernel:connect_node('{other}')"
            for other in self._but(node)
        )
        node.ctl("eval", f"{', '.join(calls)}.", within_s=180)

    def alarmed(self, node: PrivateBroker, sign: str) -> bool:
        """Whether a node says so of itself; `sign`: mem_alarm or disk_free_alarm."""
        seen = _answer(lambda: node.api("GET", f"/api/nodes/{quote(node.name)}"))
        return isinstance(seen, dict) and bool(seen.get(sign))

    def whole(self) -> None:
        """Waits until each node sees all of them, and no alarm."""
        eventually_sync(lambda: all(map(self._sees_all, self.nodes)), within_s=120, message="the cluster is not whole")

    def _each(self, do: Callable[[PrivateBroker], object], nodes: Sequence[PrivateBroker] = ()) -> None:
        """Side by side; with all of them unless told."""
        some = nodes or self.nodes
        with ThreadPoolExecutor(len(some)) as threads:
            list(threads.map(do, some))

    def _joined_or_apart(self, node: PrivateBroker) -> str:
        """Empty while it is neither."""
        seen = _answer(lambda: node.api("GET", "/api/nodes"))
        if isinstance(seen, list) and any(one.get("partitions") for one in seen):
            return "apart"
        return "joined" if all(map(self._sees_all, self.nodes)) else ""

    def _but(self, node: PrivateBroker) -> list[str]:
        return [other.name for other in self.nodes if other is not node]

    def _sees_all(self, node: PrivateBroker) -> bool:
        seen = _answer(lambda: node.api("GET", "/api/nodes"))
        return isinstance(seen, list) and sum(map(_in_order, seen)) == NODES

    def _has_vhost(self, node: PrivateBroker, name: str) -> bool:
        seen = _answer(lambda: node.api("GET", "/api/vhosts"))
        return isinstance(seen, list) and name in {one["name"] for one in seen}

    def _queue(self, node: PrivateBroker, vhost: str, queue: str) -> dict[str, Any]:
        said = _answer(lambda: node.api("GET", f"/api/queues/{quote(vhost, safe='')}/{quote(queue, safe='')}"))
        return said if isinstance(said, dict) else {}


def _runs(asked: PrivateBroker, node: PrivateBroker) -> bool | None:
    """What one node says of another; None while it says nothing."""
    seen = _answer(lambda: asked.api("GET", "/api/nodes"))
    told = {one["name"]: bool(one.get("running")) for one in seen} if isinstance(seen, list) else {}
    return told.get(node.name)


def _in_order(node: dict[str, Any]) -> bool:
    """What one node says of another: it runs, sees no partition and has no alarm."""
    alarm = node.get("mem_alarm") or node.get("disk_free_alarm")
    return bool(node.get("running")) and not node.get("partitions") and not alarm


def _answer(ask: Callable[[], object]) -> object:
    """None where the management API gives none: the node is on its way up or down, or the queue has no leader."""
    try:
        return ask()
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def broker_cluster(partition_handling: str = "pause_minority") -> Iterator[BrokerCluster]:
    """Starts three nodes of the RabbitMQ that RABBITRAY_RABBITMQ chooses; nothing outlives this process.

    `partition_handling`: as `cluster_partition_handling`, where RabbitMQ's default is "ignore". By the one here a
    minority stops its work until it hears of the others again (RabbitMQ up to 4.2; later ones keep nothing outside of
    Raft).
    """
    configuration = f"cluster_partition_handling = {partition_handling}\n{CONFIGURATION}"
    chosen = programs()
    cookie = secrets.token_hex(10).upper()
    names = tuple(layout.new_name() for _ in range(NODES))
    with _epmd(chosen) as port, contextlib.ExitStack() as opened:
        nodes = []
        for name in names:
            member = layout.Member(name=name, names=names, epmd_port=port, cookie=cookie)
            nodes.append(PrivateBroker(configuration=configuration, member=member))
            opened.callback(nodes[-1].close)
        cluster = BrokerCluster(nodes, cookie)
        cluster.start(*nodes)
        cluster.whole()
        yield cluster


@contextlib.contextmanager
def _epmd(chosen: Programs) -> Iterator[int]:
    """An epmd on a port of its own, which the kernel ends with this process."""
    with TemporaryDirectory(prefix="rabbitray-epmd-") as folder:
        planned = layout.plan(Path(folder), chosen)
        port = planned.ports.epmd
        command = ["setpriv", "--pdeathsig", "KILL", *layout.epmd_command(chosen, port)]
        with subprocess.Popen(command, env=planned.environment(), cwd=folder) as epmd:
            try:
                assert guardian.listening(port, epmd), "epmd does not answer"
                yield port
            finally:
                epmd.kill()
