"""What a private node looks like on disk: its name, its ports, its configuration and how it is launched."""

from __future__ import annotations

import json
import random
import secrets
import socket
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote

from rabbitray.actors.errors import ConfigurationError
from rabbitray.cluster.broker.programs import SYSTEM_PATH, Programs

LOOPBACK = "127.0.0.1"

_PLUGINS = ("rabbitmq_management", "rabbitmq_prometheus")
_NODE_FILE = "node.json"
_LAUNCH_FILE = "launch.json"

# Below the range that the kernel hands to outgoing connections, so that nobody takes a port while the node is
# down between kill() and start(); above the range of Ray's workers (10002-19999).
_FIRST_PORT, _LAST_PORT = 20_000, 32_000

# Sizes are for tests and benches on a small machine: an alarm must come from a test that wants one, never
# from a busy machine.
_CONFIGURATION = """\
listeners.tcp.1 = {host}:{amqp}
management.tcp.ip = {host}
management.tcp.port = {management}
prometheus.tcp.ip = {host}
prometheus.tcp.port = {prometheus}
collect_statistics_interval = 1000
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
"""

# What a full queue refused of a rung's messages is tried again after 5 s, not 180 s; rabbitmq.conf has no key for it.
_ADVANCED = "[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 5000}]}].\n"

# One scheduler without busy waiting leaves the cores to the pool; the distribution port is on loopback only;
# `+B i` as the package's script has it: the VM ignores SIGINT.
_DISTRIBUTION = "-kernel inet_dist_use_interface {127,0,0,1}"
# Nobody would end the daemon that it starts. rabbitmqctl of RabbitMQ 4 sets ERL_FLAGS itself, so it is told twice.
_NO_EPMD = "-start_epmd false"
_VM_ARGUMENTS = f"+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none +B i {_DISTRIBUTION}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The five TCP ports of one node, all on loopback."""

    amqp: int
    management: int
    prometheus: int
    distribution: int
    epmd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Name, ports and directory of one node, the same in every start on the same directory; and what it is run with."""

    directory: Path
    name: str
    ports: Ports
    programs: Programs
    made_by: str = ""
    """The RabbitMQ of the first start on the directory; empty where nobody knows."""
    configuration: str = ""
    """Lines added to the node's rabbitmq.conf; not kept between handles."""
    plugins: tuple[str, ...] = ()
    """Enabled beside management and Prometheus; not kept between handles."""

    @property
    def management_url(self) -> str:
        """Base address of the management API, without a trailing slash."""
        return f"http://{LOOPBACK}:{self.ports.management}"

    @property
    def prometheus_url(self) -> str:
        """Base address of the node's Prometheus endpoint."""
        return f"http://{LOOPBACK}:{self.ports.prometheus}"

    def amqp_url(self, vhost: str = "/") -> str:
        """Address of `vhost` for the user `guest`, who may log in from loopback only."""
        path = "" if vhost == "/" else quote(vhost, safe="")
        return f"amqp://guest:guest@{LOOPBACK}:{self.ports.amqp}/{path}"

    def environment(self) -> dict[str, str]:
        """The whole environment of the node and of its command-line tools: nothing of ours leaks in."""
        home, loopback = str(self.directory), LOOPBACK
        return {
            "PATH": f"{Path(self.programs.erlang('erl')).parent}:{SYSTEM_PATH}",
            "LANG": "C.UTF-8",
            "HOME": home,  # the Erlang cookie lives there
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",  # keeps the system's rabbitmq-env.conf out
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_IP_ADDRESS": loopback,
            "RABBITMQ_NODE_PORT": str(self.ports.amqp),
            "RABBITMQ_DIST_PORT": str(self.ports.distribution),
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _VM_ARGUMENTS,
            "RABBITMQ_CTL_ERL_ARGS": f"{_DISTRIBUTION} {_NO_EPMD}",
            "ERL_CRASH_DUMP_SECONDS": "0",  # no dump: the log says what went wrong
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the VM: one process, one pid
            "ERL_EPMD_PORT": str(self.ports.epmd),
            "ERL_EPMD_ADDRESS": loopback,
            "ERL_FLAGS": _NO_EPMD,
        }

    @property
    def note(self) -> str:
        """What may be wrong with a directory that another RabbitMQ has made; empty where it was this one."""
        version = self.programs.version
        if self.made_by in ("", version):
            return ""
        return f"; {self.directory} was made by RabbitMQ {self.made_by}, and this is {version}: take another folder"

    def _kept(self) -> dict[str, object]:
        return {
            "name": self.name,
            "ports": asdict(self.ports),
            "rabbitmq": self.made_by or self.programs.version,
        }

    def write(self) -> None:
        """Write everything that a start needs; safe to repeat, the messages stay."""
        for folder in ("mnesia", "log"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        ours = _CONFIGURATION.format(host=LOOPBACK, **asdict(self.ports))
        _put(self.directory / "rabbitmq.conf", f"{ours}{self.configuration}\n")
        _put(self.directory / "advanced.config", _ADVANCED)
        plugins = ",".join((*_PLUGINS, *self.plugins))
        _put(self.directory / "enabled_plugins", f"[{plugins}].\n")
        _put(self.directory / _NODE_FILE, json.dumps(self._kept()))
        launch = {
            "server": [self.programs.script("rabbitmq-server")],
            "epmd": [self.programs.erlang("epmd"), "-port", str(self.ports.epmd), "-address", LOOPBACK],
            "epmd_port": self.ports.epmd,
            "environment": self.environment(),
        }
        _put(self.directory / _LAUNCH_FILE, json.dumps(launch))


def plan(directory: Path, programs: Programs) -> Layout:
    """A new layout in `directory` with free ports; nothing is written yet."""
    name = f"rabbitray-{secrets.token_hex(4)}@localhost"
    return Layout(directory=directory, name=name, ports=Ports(**_free_ports()), programs=programs)


def load(directory: Path, programs: Programs) -> Layout | None:
    """The layout that an earlier start left in `directory`, or None; ConfigurationError if it is damaged."""
    path = directory / _NODE_FILE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        return Layout(
            directory=directory,
            name=str(found["name"]),
            ports=Ports(**found["ports"]),
            programs=programs,
            made_by=str(found.get("rabbitmq", "")),
        )
    except (ValueError, TypeError, KeyError) as broken:
        raise ConfigurationError(f"{path} does not describe a private node ({broken!r}): remove the folder") from broken


def on_other_ports(layout: Layout) -> Layout:
    """The same node on other ports: for a first start that lost the race for one of them."""
    return replace(layout, ports=Ports(**_free_ports()))


def port_taken(ports: Ports) -> bool:
    """Whether somebody listens on one of the ports of a node that is down."""
    return not all(_bindable(port) for port in asdict(ports).values())


def _put(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


def _free_ports() -> dict[str, int]:
    names = ("amqp", "management", "prometheus", "distribution", "epmd")
    candidates = random.sample(range(_FIRST_PORT, _LAST_PORT), 500)
    free = (port for port in candidates if _bindable(port))
    ports = dict(zip(names, free, strict=False))
    if len(ports) < len(names):
        raise ConfigurationError(f"no five free TCP ports on {LOOPBACK} in {_FIRST_PORT}-{_LAST_PORT}")
    return ports


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection is no obstacle
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
