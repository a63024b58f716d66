"""Orders that a cluster works, counted by their ids; see `ray_up.HANDLER`, which notes each that it has finished."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from rabbitray.actors.message.job import Job
from tests.kit.command_process import publish
from tests.kit.hosts import Host
from tests.kit.ray_up import NODES, Submitted, UpCluster

FIRST: Final = 200
MORE: Final = 100
BACKLOG: Final = 150
"""So many orders wait or are being worked at least, as long as somebody watches."""
SECONDS: Final = 0.05
"""How long a handler works."""
ENOUGH: Final = 20
"""So many handlers have finished on a host that works."""


class Orders:
    """Orders NAME-0, NAME-1, ...: there is work as long as one waits here for something to happen."""

    def __init__(self, cluster: UpCluster, amqp_url: str, name: str) -> None:
        self._cluster = cluster
        self._amqp_url = amqp_url
        self.name = name
        self.count = FIRST
        cluster.publish(name, FIRST, SECONDS)

    def submitted(self, within_s: float, how: str = "--until-empty") -> Submitted:
        """A job that works them, once it does so on all nodes."""
        job = self._cluster.submit(f"--initial-size 4 {how}")
        self.until(lambda: self.busy_hosts() == set(NODES), within_s=within_s, of=job)
        return job

    def until(self, happened: Callable[[], bool], *, within_s: float, of: Submitted) -> float:
        """After how many seconds it did. AssertionError with what the job printed when not, or when the job ended."""
        began = time.monotonic()
        while not happened():
            assert of.process.poll() is None, f"the job ended with {of.process.returncode}\n{of.log()}"
            assert time.monotonic() - began < within_s, f"not within {within_s:g} s: {self.finished()}\n{of.log()}"
            self._feed()
            time.sleep(0.1)
        return time.monotonic() - began

    def work_for(self, seconds: float, *, of: Submitted) -> None:
        """Lets time pass."""
        over = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= over, within_s=2 * seconds + 10, of=of)

    def going_on(self, *hosts: Host) -> Callable[[], bool]:
        """Whether each of these hosts (none: any host) has finished some more than it has now."""
        before = self.finished()
        if not hosts:
            return lambda: sum(self.finished().values()) > sum(before.values())
        return lambda: all(self.finished()[host.name] > before[host.name] for host in hosts)

    def finished(self) -> dict[str, int]:
        """How many handlers have finished on each host."""
        return {host: len(keys) for host, keys in self._cluster.ran(self.name).items()}

    def busy_hosts(self) -> set[str]:
        return {host for host, count in self.finished().items() if count >= ENOUGH}

    def run_twice(self, *, but_for: Host | None = None) -> int:
        """How many handlers ran although one had finished the same order before.

        `but_for`: without those of which one run was on this host; it was cut off, and could not tell.
        """
        ran = self._cluster.ran(self.name)
        apart = set(ran[but_for.name]) if but_for is not None else set()
        runs = Counter(key for keys in ran.values() for key in keys if key not in apart)
        return sum(runs.values()) - len(runs)

    def assert_all_there(self) -> None:
        """Once no pool runs: each order has one row, none was charged a run, and none is dead."""
        like = f"WHERE key LIKE '{self.name}-%'"
        rows = self._cluster.rows(f"SELECT key, attempts FROM results {like}")
        keys = Counter(row["key"] for row in rows)
        wanted = {f"{self.name}-{number}" for number in range(self.count)}
        found = {
            "lost": len(wanted - keys.keys()),
            "doubled": len(rows) - len(keys),
            "charged": sum(row["attempts"] != 1 for row in rows),
            "dead": len(self._cluster.rows(f"SELECT key FROM dead_letters {like}")),
            "unknown": len(keys.keys() - wanted),
        }
        assert not any(found.values()), found

    def _feed(self) -> None:
        worked = len({key for keys in self._cluster.ran(self.name).values() for key in keys})
        if self.count - worked < BACKLOG:
            ids = (f"{self.name}-{self.count + number}" for number in range(MORE))
            publish(self._amqp_url, "orders", [Job(id=one, payload={"s": SECONDS}) for one in ids])
            self.count += MORE
