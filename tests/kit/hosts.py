"""Hosts on one machine, as far as a program can tell: each with its own network, processes, host name, clocks, files.

They lie in Linux namespaces of a process, so they end with the test run, whatever ends it, and leave nothing on the
machine but their folders, which are the test's. Nothing outside them can be reached from inside, and none of their
addresses exists on the machine itself. Needs root; see `missing_for_hosts`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.kit.eventually import eventually_sync
from tests.kit.host_init import SHARED
from tests.kit.root import ROOT

SUBNET: Final = "10.77.0"
PACKAGES: Final = "/srv/packages"
"""Where a host has the packages that the tests run with."""
BYTECODE: Final = "/srv/bytecode"
CLOCK: Final = "/srv/clock"
"""Where a host whose clock is off has what each Python on it reads first, see `_ALL_SLEEP`."""
_ALL_SLEEP: Final = """\
import select
import time


def sleep(seconds, /):
    select.select([], [], [], seconds)


time.sleep = sleep
"""
"""Python sleeps until a moment of the monotonic clock, which libfaketime 0.9.10 shifts with the other clock, asked not
to or not: each `time.sleep` would be refused as an invalid argument.
"""
_SSH_PORT: Final = 22
_BRIDGE: Final = "bridge"
_SSHD: Final = "HostKey /root/.ssh/host_key\nPermitRootLogin prohibit-password\nPrintLastLog no\nUseDNS no\n"
_SSH: Final = "Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"


def missing_for_hosts() -> str:
    """Why there can be no hosts here; empty where there can."""
    if os.geteuid():
        return "hosts in namespaces need root"
    programs = ("unshare", "nsenter", "pivot_root", "ip", "ssh", "ssh-keygen", "rsync")
    gone = [name for name in programs if shutil.which(name) is None]
    gone += [] if Path("/usr/sbin/sshd").exists() else ["sshd"]
    gone += [] if faketime() else ["libfaketime"]
    if gone:
        return f"hosts in namespaces need {', '.join(gone)}: cluster/deploy/install/prepare.sh cluster-test-tools"
    links = "ip link add one type bridge && ip link add two type veth peer name three"
    command = ("unshare", "--mount", "--uts", "--ipc", "--pid", "--net", "--time", "--fork", "sh", "-c", links)
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"no namespaces with networks here: {tried.stderr.strip()}" if tried.returncode else ""


def faketime() -> str:
    """Where Debian's libfaketime lies; empty without it."""
    return next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "")


@dataclass(kw_only=True, eq=False)
class Host:
    """One host. `number`: the last part of its address; `clock_s`: how far its wall clock is off.

    `disk` is its `/` as the machine sees it: what it finds there when it boots, and what stays of it when its power
    goes. `files`: put there before the first boot; `environment`: of everything that runs on it; `shown`: what of the
    machine it sees at which place, read-only unless that place is among `writable`.
    """

    name: str
    number: int
    disk: Path
    files: Mapping[str, str]
    environment: Mapping[str, str]
    shown: Mapping[Path, str]
    writable: tuple[str, ...] = ()
    clock_s: int = 0
    pid: int = 0
    _outer: subprocess.Popen[bytes] | None = None
    _namespace: str = ""

    @property
    def address(self) -> str:
        return f"{SUBNET}.{self.number}"

    @property
    def log(self) -> Path:
        """What its first process and its sshd said."""
        return self.disk.with_suffix(".log")

    def boot(self) -> Self:
        """Starts it with an sshd and without a network, see `Hosts.join`."""
        self.disk.mkdir(parents=True, exist_ok=True)
        ahead = str(10_000 * self.number)  # no two hosts count their seconds from the same moment
        namespaces = (
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--net",
            "--time",
            "--monotonic",
            ahead,
            "--boottime",
            ahead,
        )
        first = (sys.executable, "-S", str(Path(__file__).with_name("host_init.py")))
        command = ("setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, "--fork", "--kill-child", *first)
        with self.log.open("ab") as log:
            self._outer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        assert self._outer.stdin is not None
        self._outer.stdin.write(json.dumps(self._plan()).encode())
        self._outer.stdin.close()
        self.pid = eventually_sync(self._first_process, within_s=10, message=f"{self.name} has no process")
        self._namespace = _pid_namespace(self.pid)
        eventually_sync(self._listens, within_s=10, message=f"{self.name} has no sshd")
        return self

    def power_off(self) -> None:
        """Every process of it is killed, its network is gone, its disk stays."""
        if self._outer is not None:
            self._outer.kill()
            self._outer.wait()
            eventually_sync(lambda: not self.processes(), within_s=20, message=f"{self.name} lives")
        self._outer = None

    def run(self, command: str, *, within_s: float = 60.0, check: bool = True, **variables: str) -> str:
        """What a login shell on it prints, both streams together; its exit code must be 0 unless `check` is off."""
        done = subprocess.run(
            self.shell(command, **variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=within_s,
            check=False,
        )
        assert not check or done.returncode == 0, f"{self.name}: {command}: exit {done.returncode}\n{done.stdout}"
        return done.stdout

    def shell(self, command: str, **variables: str) -> tuple[str, ...]:
        """The words that run a command in a login shell on it."""
        base = {"HOME": "/root", "USER": "root", "LANG": "C.UTF-8", "TERM": "dumb", **self._machine(), **variables}
        environ = (f"{name}={value}" for name, value in base.items())
        inside = ("nsenter", "--target", str(self.pid), "--all", "--wd=/")
        return (*inside, "env", "-i", "--chdir=/root", *environ, "bash", "--login", "-c", command)

    def processes(self) -> list[int]:
        """The ids of all its processes, as the machine counts them."""
        every = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
        return [process for process in every if _pid_namespace(process) == self._namespace]

    def running(self, text: str) -> list[int]:
        """Those of its processes in whose command line this text stands."""
        return [process for process in self.processes() if text in _command_line(process)]

    def signal(self, number: int, processes: Iterable[int]) -> None:
        """Sends a signal to some of `processes`."""
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def kill_all_but_ssh(self) -> list[int]:
        """`kill -9` of every process but its first and its sshd; which those were."""
        doomed = [process for process in self.processes() if process != self.pid and _program(process) != "sshd"]
        self.signal(signal.SIGKILL, doomed)
        return doomed

    def freeze(self) -> None:
        """Stops every process of it."""
        stopped: set[int] = set()
        while new := set(self.processes()) - stopped:
            self.signal(signal.SIGSTOP, new)
            stopped |= new

    def thaw(self) -> None:
        self.signal(signal.SIGCONT, self.processes())

    def _plan(self) -> dict[str, object]:
        own = {
            f"{CLOCK[1:]}/sitecustomize.py": _ALL_SLEEP,
            "etc/ssh/sshd_config": _SSHD,
            "etc/resolv.conf": "",
            "etc/hosts": f"127.0.0.1 localhost\n{self.address} {self.name}\n",
            "etc/profile.d/python.sh": f"export PATH={sys.base_prefix}/bin:$PATH\n",
        }
        shown = {str(source): place for source, place in self.shown.items()}
        if Path(sys.base_prefix).parts[1] not in SHARED:
            shown[sys.base_prefix] = sys.base_prefix
        plan = {"name": self.name, "root": str(self.disk), "files": {**self.files, **own}}
        environment = " ".join(f'"{name}={value}"' for name, value in self._machine().items())
        return {**plan, "shown": shown, "writable": self.writable, "sshd": f"SetEnv={environment}"}

    def _machine(self) -> dict[str, str]:
        """What stands in the environment of all its processes."""
        faked = {"LD_PRELOAD": faketime(), "FAKETIME": f"{self.clock_s:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        clock = {**faked, "PYTHONPATH": CLOCK}
        return {**self.environment, **(clock if self.clock_s else {})}

    def _first_process(self) -> int:
        assert self._outer is not None
        assert self._outer.poll() is None, f"{self.name} did not boot: {self.log.read_text()}"
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def _listens(self) -> bool:
        assert self._first_process(), self.log.read_text()
        return f":{_SSH_PORT:04X} 00000000:0000 0A" in Path(f"/proc/{self.pid}/net/tcp").read_text()


def _pid_namespace(process: int) -> str:
    """Empty when it is gone."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{process}/ns/pid")
    return ""


def _command_line(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _program(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text().strip()
    return ""


class Hosts:
    """A laptop, whose ssh key opens the others, and whatever hosts are added, all in one network.

    `environment`: of every process on every host; `shown`: files and folders of the machine that all of them have.
    """

    def __init__(self, folder: Path, *, environment: Mapping[str, str], shown: Mapping[Path, str]) -> None:
        self._folder = folder
        self._environment = {**environment, "PYTHONPYCACHEPREFIX": BYTECODE}
        self._shown = {**shown, Path(sysconfig.get_path("purelib")): PACKAGES, _bytecode(): BYTECODE}
        self._keys = {name: _new_key(folder / name) for name in ("id_ed25519", "host_key")}
        self._members: list[Host] = []
        self.laptop = self._booted("laptop", 1, 0, {"id_ed25519": self._keys["id_ed25519"][0]})
        self._of_laptop("ip", "link", "add", _BRIDGE, "type", "bridge")
        self._of_laptop("ip", "address", "add", f"{self.laptop.address}/24", "dev", _BRIDGE)
        self._of_laptop("ip", "link", "set", _BRIDGE, "up")

    def add(self, name: str, *, clock_s: int = 0) -> Host:
        """A new host that runs and is in the network."""
        host = self._booted(name, len(self._members) + 1, clock_s, {"authorized_keys": self._keys["id_ed25519"][1]})
        self.join(host)
        return host

    def join(self, host: Host) -> None:
        """Brings a host that was just booted into the network; the laptop is its way to everywhere else, a dead end."""
        wire = f"host{host.number}"
        peer = ("type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
        self._of_laptop("ip", "link", "add", wire, "master", _BRIDGE, *peer)
        self.plug(host)
        in_network(host, "ip", "address", "add", f"{host.address}/24", "dev", "eth0")
        in_network(host, "ip", "link", "set", "eth0", "up")
        in_network(host, "ip", "route", "add", "default", "via", self.laptop.address)

    def cut(self, host: Host) -> None:
        """Pulls the plug of its network."""
        self._of_laptop("ip", "link", "set", f"host{host.number}", "down")

    def plug(self, host: Host) -> None:
        self._of_laptop("ip", "link", "set", f"host{host.number}", "up")

    def close(self) -> None:
        for host in reversed(self._members):
            host.power_off()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _booted(self, name: str, number: int, clock_s: int, keys: Mapping[str, str]) -> Host:
        files = {f"root/.ssh/{file}": text for file, text in {**keys, "host_key": self._keys["host_key"][0]}.items()}
        host = Host(
            name=name, number=number, clock_s=clock_s, disk=self._folder / name, environment=self._environment,
            files={**files, "root/.ssh/config": _SSH}, shown=self._shown, writable=(BYTECODE,),
        )  # fmt: skip
        self._members.append(host)
        try:
            return host.boot()
        except BaseException:
            self.close()
            raise

    def _of_laptop(self, *command: str) -> None:
        in_network(self.laptop, *command)


def in_network(host: Host, *command: str) -> None:
    """Runs a program of the machine in the network of a host."""
    subprocess.run(("nsenter", "--target", str(host.pid), "--net", *command), check=True)


def _bytecode() -> Path:
    """A folder for the bytecode of what all hosts run, kept from one test run to the next: it takes minutes to make."""
    folder = ROOT / ".pytest_cache" / "bytecode-of-hosts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _new_key(file: Path) -> tuple[str, str]:
    """Both halves of an ssh key."""
    file.parent.mkdir(parents=True, exist_ok=True)
    command = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "rabbitray-tests", "-f", str(file))
    subprocess.run(command, check=True)
    return file.read_text(), file.with_suffix(".pub").read_text()
