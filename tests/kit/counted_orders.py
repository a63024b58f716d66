"""What became of the orders of a cluster that `ray up` brought up, by their ids."""

from __future__ import annotations

from collections import Counter

from tests.kit.ray_up import UpCluster

ENOUGH = 20
"""So many handlers have run on a host that works."""


def busy_hosts(cluster: UpCluster, name: str) -> set[str]:
    """The hosts that have run some orders NAME."""
    return {host for host, keys in cluster.ran(name).items() if len(keys) >= ENOUGH}


def run_twice(cluster: UpCluster, name: str) -> int:
    """How many handlers ran although one had finished the same order before."""
    runs = Counter(key for keys in cluster.ran(name).values() for key in keys)
    return sum(runs.values()) - len(runs)


def assert_all_there(cluster: UpCluster, name: str, count: int) -> None:
    """Once no pool runs: each of the orders NAME-0, NAME-1, ... has one row, none was charged a run or is dead."""
    rows = cluster.rows(f"SELECT key, attempts FROM results WHERE key LIKE '{name}-%'")
    keys = Counter(row["key"] for row in rows)
    wanted = {f"{name}-{number}" for number in range(count)}
    charged = [row["key"] for row in rows if row["attempts"] != 1]
    dead = cluster.rows(f"SELECT key FROM dead_letters WHERE key LIKE '{name}-%'")
    found = {
        "lost": len(wanted - keys.keys()),
        "doubled": len(rows) - len(keys),
        "charged": len(charged),
        "dead": len(dead),
    }
    assert not any(found.values()), found
    assert keys.keys() <= wanted
