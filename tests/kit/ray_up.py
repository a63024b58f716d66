"""A Ray cluster that `ray up` brings up on hosts, with the commands that cluster/deploy/local.yaml names.

They are typed on the laptop as they stand in the file's comments, in the folder of a user's project that has a handler
of the name that stands there, too. Only the values that the reader fills in are the tests'.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import subprocess
from collections.abc import Mapping
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
DASHBOARD_PORT: Final = 8265
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
    """The command in the sample's comments that begins so, with the lines that continue it."""
    lines = [line.removeprefix("#").strip() for line in SAMPLE.read_text().splitlines() if line.startswith("#")]
    (found,) = (line for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.startswith(start))
    return found.partition("  #")[0]


@dataclass(kw_only=True)
class Submitted:
    """A program that runs in the background: most often a `ray job submit` that waits for its job on the laptop."""

    process: subprocess.Popen[bytes]
    output: Path

    def end(self, within_s: float) -> str:
        """What it printed; it must end by itself and with 0."""
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not within {within_s:g} s: the job ended\n{self.log()}") from None
        assert code == 0, f"exit {code}\n{self.log()}"
        return self.log()

    @property
    def submission_id(self) -> str:
        """What Ray calls it."""
        (found,) = set(re.findall(r"raysubmit_\w+", self.log()))
        return found

    def log(self) -> str:
        """What it printed so far."""
        return self.output.read_text(errors="replace")


class UpCluster:
    """A laptop, a head and two nodes, ready for `up`. `environment`: of all of them, beside MACHINES."""

    def __init__(self, folder: Path, amqp_url: str, environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._typed: list[Submitted] = []
        with contextlib.ExitStack() as made:
            shown = {wheels(folder / "wheels", PACKAGES): WHEELS}
            self.hosts = made.enter_context(Hosts(folder, environment={**MACHINES, **(environment or {})}, shown=shown))
            self.laptop = self.hosts.laptop
            self.head = self.hosts.add("head")
            self.nodes = [self.hosts.add(name) for name in NODES]
            self.broker_link = made.enter_context(contextlib.closing(Relay(self.laptop, AMQP_PORT, _port(amqp_url))))
            self._equip_laptop(
                urlsplit(amqp_url)._replace(netloc=f"guest:guest@{self.laptop.address}:{AMQP_PORT}").geturl()
            )
            self._made = made.pop_all()

    def up(self, *, with_nodes: bool = True) -> None:
        """`ray up`, and until all nodes are there, or the head alone; then `ray dashboard`, a tunnel to the head."""
        self.type("ray up", more=" -y", within_s=200)
        self.until_alive(self.head, *(self.nodes if with_nodes else ()), within_s=180)
        self.laptop.signal(signal.SIGKILL, self.laptop.running(str(DASHBOARD_PORT)))  # a tunnel to a head that is gone
        self._popen(self.laptop, f"cd shop && {typed('ray dashboard')}")
        eventually_sync(lambda: _listens(self.laptop, DASHBOARD_PORT), within_s=30, message="no tunnel")

    def until_alive(self, *hosts: Host, within_s: float) -> None:
        """Waits until Ray has all of these."""
        wanted = {host.address for host in hosts}
        eventually_sync(lambda: wanted <= self.alive(), within_s=within_s, message=f"Ray has {wanted}")

    def until_dead(self, host: Host, *, within_s: float) -> None:
        """Waits until Ray takes it for dead."""
        eventually_sync(lambda: host.address not in self.alive(), within_s=within_s, message=f"Ray lost {host.name}")

    def wait_for_notice(self, node: Host, metadata: str) -> Submitted:
        """On a node what its systemd unit would run; it ends once the node drains."""
        program = f"~/rabbitray/bin/python -m rabbitray.cluster.deploy.spot.notice --metadata {metadata}"
        return self._popen(node, f"RAY_AUTH_MODE=token {program}")

    def on_head(self, command: str) -> str:
        """What `rabbitray COMMAND` prints on the head, in a shell as `ray exec` opens it; whatever its exit code."""
        return self.head.run(f"bash -ic 'rabbitray {command}' 2>/dev/null", check=False)

    def down(self) -> str:
        """`ray down`."""
        return self.type("ray down", more=" -y", within_s=120)

    def alive(self) -> set[str]:
        """Addresses of the hosts that Ray takes for alive; none while its dashboard does not answer."""
        return {raylet["nodeManagerAddress"] for raylet in self._raylets()}

    def _raylets(self) -> list[dict[str, Any]]:
        try:
            answer = get_json(self.head, DASHBOARD_PORT, "/nodes?view=summary", self._token)
        except (OSError, http.client.HTTPException, ValueError):
            return []
        found = [node["raylet"] for node in answer["data"]["summary"]]
        return [raylet for raylet in found if raylet.get("state") == "ALIVE"]

    def publish(self, name: str, count: int, seconds: float) -> None:
        """`count` orders with ids NAME-0, NAME-1, ..., each of which works so long, published on the laptop."""
        jobs = ({"i": f"{name}-{number}", "p": {"s": seconds}} for number in range(count))
        (self.project / "orders.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
        self.type("RABBITMQ_URL_FILE=~/.rabbitmq-url rabbitray publish")

    def submit(self, more: str = "") -> Submitted:
        """The sample's `ray job submit`, `more` behind it, which waits in the background."""
        command = f"{typed('export RAY_AUTH_MODE')}; {typed('ray job submit')} {more}"
        return self._popen(self.laptop, f"cd shop && {command}")

    def stop(self, job: Submitted) -> None:
        """`ray job stop` of a job that runs, until it has ended."""
        command = typed("ray job stop").replace("SUBMISSION_ID", job.submission_id)
        self.laptop.run(f"{typed('export RAY_AUTH_MODE')}; {command}", within_s=120)
        job.process.wait(60)

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
        self._made.close()
        for one in self._typed:
            one.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _equip_laptop(self, amqp_url: str) -> None:
        """rabbitray, a project, a token and the broker's address, as the sample says."""
        (self.project / "mypackage").mkdir(parents=True)
        (self.project / "mypackage/jobs.py").write_text(HANDLER)
        (self.project / "local.yaml").write_text(self._filled_in())
        self.laptop.run("python3 -m venv ~/rabbitray && ~/rabbitray/bin/pip install --quiet rabbitray")
        self.laptop.run("echo 'export PATH=~/rabbitray/bin:$PATH' >> ~/.profile")
        self.laptop.run(typed("umask 077; mkdir"))
        self.laptop.run(f"umask 077; echo '{amqp_url}' > ~/.rabbitmq-url")
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

    def _popen(self, host: Host, command: str) -> Submitted:
        output = self._folder / f"{host.name}-{len(self._typed)}.log"
        with output.open("wb") as out:
            process = subprocess.Popen(host.shell(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self._typed.append(Submitted(process=process, output=output))
        return self._typed[-1]


def _port(amqp_url: str) -> int:
    port = urlsplit(amqp_url).port
    assert port is not None
    return port


def _listens(host: Host, port: int) -> bool:
    with contextlib.suppress(OSError):
        return f"0100007F:{port:04X} 00000000:0000 0A" in Path(f"/proc/{host.pid}/net/tcp").read_text()
    return False
