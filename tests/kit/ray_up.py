"""A Ray cluster that `ray up` brings up on hosts, with the commands that cluster/deploy/local.yaml names.

They are typed on the laptop as they stand in the file's comments, in the folder of a user's project that has a handler
of the name that stands there, too. Only the values that the reader fills in are the tests'.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from rabbitray.actors.store.read_only import read_only_query
from tests.kit.eventually import eventually_sync
from tests.kit.host_network import Relay, get_json
from tests.kit.hosts import PACKAGES, Host, Hosts
from tests.kit.root import ROOT
from tests.kit.wheels import wheels

SAMPLE: Final = ROOT / "cluster/deploy/local.yaml"
WHEELS: Final = "/srv/wheels"
AMQP_PORT: Final = 5672
NODE_CPUS: Final = 2
NODES: Final = ("node1", "node2")

MACHINES: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": WHEELS,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "RABBITRAY_DEDUPE_CAPACITY": "100000",
}
"""The environment of the hosts."""

HANDLER: Final = """\
import socket
import time


def handle(job):
    time.sleep(job.payload["s"])
    with open("/root/ran", "a") as ran:
        ran.write(f"{job.key}\\n")
    return {"host": socket.gethostname()}
"""


def typed(start: str) -> str:
    """The command of the sample's comments that begins so, with the lines that continue it."""
    lines = [line.removeprefix("#").strip() for line in SAMPLE.read_text().splitlines() if line.startswith("#")]
    (found,) = (line for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.startswith(start))
    return found


@dataclass(kw_only=True)
class Submitted:
    """A `ray job submit` that waits for its job on the laptop."""

    process: subprocess.Popen[bytes]
    output: Path

    def until(self, happened: Callable[[], bool], *, within_s: float) -> float:
        """Waits until something has happened; after how many seconds. AssertionError with what it printed when not."""
        began = time.monotonic()
        while not happened():
            assert time.monotonic() - began < within_s, f"not within {within_s:g} s\n{self.log()}"
            time.sleep(0.1)
        return time.monotonic() - began

    def end(self, within_s: float) -> str:
        """What it printed; it must end by itself and with 0."""
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not within {within_s:g} s: the job ended\n{self.log()}") from None
        assert code == 0, f"exit {code}\n{self.log()}"
        return self.log()

    def log(self) -> str:
        """What it printed so far."""
        return self.output.read_text(errors="replace")


class UpCluster:
    """A laptop, a head and nodes, ready for `up`. `clocks`: seconds that the wall clock of a host is off."""

    def __init__(
        self, folder: Path, amqp_url: str, *, nodes: Iterable[str] = NODES, clocks: Mapping[str, int] | None = None
    ) -> None:
        self._folder = folder
        self.hosts = Hosts(folder, environment=MACHINES, shown={wheels(folder / "wheels", PACKAGES): WHEELS})
        self.laptop = self.hosts.laptop
        clocks = clocks or {}
        self.head = self.hosts.add("head", clock_s=clocks.get("head", 0))
        self.nodes = [self.hosts.add(name, clock_s=clocks.get(name, 0)) for name in nodes]
        self._typed: list[Submitted] = []
        parts = urlsplit(amqp_url)
        assert parts.port is not None
        self._relay = Relay(self.laptop, AMQP_PORT, parts.port)
        self._amqp_url = parts._replace(netloc=f"guest:guest@{self.laptop.address}:{AMQP_PORT}").geturl()
        self._equip_laptop()

    def up(self, nodes: int | None = None) -> None:
        """`ray up`, and until the head and so many nodes (all) are there; then `ray dashboard`, its tunnel."""
        self.type("ray up", more=" -y", within_s=200)
        count = 1 + (len(self.nodes) if nodes is None else nodes)
        eventually_sync(lambda: len(self.alive()) == count, within_s=120, message=f"{count} hosts in Ray")
        self.open_tunnel()

    def open_tunnel(self) -> None:
        self._popen(typed("ray dashboard"))
        eventually_sync(lambda: _listens(self.laptop, 8265), within_s=30, message="no tunnel to the dashboard")

    def down(self) -> str:
        """`ray down`."""
        return self.type("ray down", more=" -y", within_s=120)

    def alive(self) -> set[str]:
        """Addresses of the hosts that Ray takes for alive; none while its dashboard does not answer."""
        try:
            answer = get_json(self.head, 8265, "/nodes?view=summary", self._token)
        except (OSError, http.client.HTTPException, ValueError):
            return set()
        raylets = [node["raylet"] for node in answer["data"]["summary"]]
        return {raylet["nodeManagerAddress"] for raylet in raylets if raylet.get("state") == "ALIVE"}

    def publish(self, name: str, count: int, seconds: float) -> None:
        """`count` orders with ids NAME-0, NAME-1, ..., each of which works so long, published on the laptop."""
        jobs = ({"i": f"{name}-{number}", "p": {"s": seconds}} for number in range(count))
        (self.project / "orders.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
        self.laptop.run(f"cd shop && RABBITMQ_URL_FILE=~/.rabbitmq-url {typed('rabbitray publish')}", within_s=60)

    def submit(self, more: str = "") -> Submitted:
        """The sample's `ray job submit`, `more` behind it, which waits in the background."""
        return self._popen(f"{typed('export RAY_AUTH_MODE')}; {typed('ray job submit')} {more}")

    def type(self, start: str, *, more: str = "", within_s: float = 60.0) -> str:
        """A command of the sample in the folder of the project, and what it printed; it must end with 0."""
        return self.laptop.run(f"cd shop && {typed(start)}{more}", within_s=within_s)

    def ran(self, name: str) -> dict[str, list[str]]:
        """For each host the ids of NAME in the order in which its handlers finished them."""
        found = {}
        for host in (self.head, *self.nodes):
            file = host.disk / "root/ran"
            lines = file.read_text().splitlines() if file.exists() else []
            found[host.name] = [line for line in lines if line.rpartition("-")[0] == name]
        return found

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """What the results file on the head's disk holds while no pool runs."""
        return read_only_query(self.head.disk / "data/orders.duckdb", sql).to_pylist()

    @property
    def project(self) -> Path:
        """The user's project on the laptop, as the machine sees it."""
        return self.laptop.disk / "root/shop"

    def close(self) -> None:
        self._relay.close()
        self.hosts.close()
        for one in self._typed:
            one.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _equip_laptop(self) -> None:
        """rabbitray, its project, a token and the broker's address, as the sample says."""
        (self.project / "mypackage").mkdir(parents=True)
        (self.project / "mypackage/jobs.py").write_text(HANDLER)
        (self.project / "local.yaml").write_text(self._filled_in())
        self.laptop.run("python3 -m venv ~/rabbitray && ~/rabbitray/bin/pip install --quiet rabbitray")
        self.laptop.run("echo 'export PATH=~/rabbitray/bin:$PATH' >> ~/.profile")
        self.laptop.run(typed("umask"))
        self.laptop.run(f"umask 077; echo '{self._amqp_url}' > ~/.rabbitmq-url")
        self._token = (self.laptop.disk / "root/.ray/auth_token").read_text().strip()

    def _filled_in(self) -> str:
        """The sample with its values filled in; nodes are said to have NODE_CPUS, however many the machine has."""
        text = SAMPLE.read_text()
        addresses = ", ".join(node.address for node in self.nodes)
        for old, new in {
            "head_ip: 10.0.0.10": f"head_ip: {self.head.address}",
            "worker_ips: [10.0.0.11, 10.0.0.12]": f"worker_ips: [{addresses}]",
            "ray start --address=$RAY_HEAD_IP:6379": f"ray start --num-cpus={NODE_CPUS} --address=$RAY_HEAD_IP:6379",
        }.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        return text

    def _popen(self, command: str) -> Submitted:
        output = self._folder / f"laptop-{len(self._typed)}.log"
        with output.open("wb") as out:
            process = subprocess.Popen(
                self.laptop.shell(f"cd shop && {command}"), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self._typed.append(Submitted(process=process, output=output))
        return self._typed[-1]


def _listens(host: Host, port: int) -> bool:
    with contextlib.suppress(OSError):
        return f"0100007F:{port:04X} 00000000:0000 0A" in Path(f"/proc/{host.pid}/net/tcp").read_text()
    return False
