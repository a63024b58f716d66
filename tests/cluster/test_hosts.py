"""What the hosts of these tests are: as separate as machines, and gone without a trace."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.eventually import eventually_sync
from tests.kit.hosts import Hosts

LOGIN = "ssh -o ConnectTimeout=1 {host} "
LOOK = ("hostname", "echo $OF_ALL", "echo ~", "ls /tmp | wc -l", "ps -e --no-headers | wc -l", "date +%s",
        "cut -d. -f1 /proc/uptime")  # fmt: skip

pytestmark = pytest.mark.whole_cluster


@pytest.fixture
def hosts(disks: Path) -> Iterator[Hosts]:
    with Hosts(disks, environment={"OF_ALL": "yes"}, shown={}) as hosts:
        yield hosts


def interfaces() -> str:
    return subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout


def test_hosts_are_machines_of_their_own_and_leave_nothing(disks: Path) -> None:
    before = interfaces()
    with Hosts(disks, environment={"OF_ALL": "yes"}, shown={}) as hosts:
        plain, ahead = hosts.add("plain"), hosts.add("ahead", clock_s=3600)
        look = f"'{'; '.join(LOOK)}'"
        seen = {host: hosts.laptop.run(LOGIN.format(host=host.address) + look).split() for host in (plain, ahead)}
        for host, (name, of_all, home, in_tmp, processes, _, _) in seen.items():
            assert (name, of_all, home, in_tmp) == (host.name, "yes", "/root", "0")
            assert int(processes) < 15, "it sees its own processes only"
        off_s = [int(found[5]) - time.time() for found in seen.values()]
        assert abs(off_s[0]) < 60
        assert abs(off_s[1] - 3600) < 60
        assert int(seen[ahead][6]) - int(seen[plain][6]) > 5_000, "no two count from the same moment"
        assert interfaces() == before
        assert plain.processes()
    assert not plain.processes()
    assert not ahead.processes()
    assert interfaces() == before
    assert "rabbitray-hosts" not in Path("/proc/mounts").read_text()


def test_a_plug_a_freeze_and_a_power_failure(hosts: Hosts) -> None:
    host = hosts.add("one")
    login = LOGIN.format(host=host.address) + "cat kept; true"

    def answers() -> bool:
        return "not lost" in hosts.laptop.run(f"timeout 2 {login}", check=False)

    host.run("echo not lost > kept; echo gone > /tmp/gone")
    assert answers()
    hosts.cut(host)
    assert not answers()
    hosts.plug(host)
    eventually_sync(answers, message="the plug is in again")
    host.freeze()
    assert not answers()
    host.thaw()
    assert answers()
    host.power_off()
    assert not answers()
    hosts.join(host.boot())
    eventually_sync(answers, message="its disk is what it was")
    assert "gone" not in host.run("ls /tmp")
