"""The private RabbitMQ node: alone or beside others, ready soon, keeps what it should, leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aio_pika
import psutil
import pytest

from rabbitray.actors.errors import BrokerUnreachableError, ConfigurationError
from rabbitray.cluster.broker import PrivateBroker, layout, start_detached, stop_detached
from rabbitray.cluster.broker.programs import programs
from tests.kit.eventually import eventually_sync

_PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests themselves run in the background
from rabbitray.cluster.broker import PrivateBroker
with PrivateBroker() as node:
    print(node.guardian_pid, node.directory, flush=True)
    sys.stdin.read()
"""


def _family(guardian_pid: int) -> list[psutil.Process]:
    guardian = psutil.Process(guardian_pid)
    return [guardian, *guardian.children(recursive=True)]


def _names(processes: list[psutil.Process]) -> set[str]:
    """By the program, which an unpacked RabbitMQ hands to a loader."""
    return {_program(process) for process in processes}


def _program(process: psutil.Process) -> str:
    words = [Path(word).name for word in process.cmdline()]
    return next((word.removesuffix(".elf") for word in words if word.endswith(".elf")), process.name())


def _epmds(node: PrivateBroker) -> list[psutil.Process]:
    """Each epmd on the port of this node, whoever started it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("ERL_EPMD_PORT") == str(node.epmd_port) and _program(process) == "epmd":
                found.append(process)
    return found


def _all_gone(processes: list[psutil.Process]) -> Callable[[], bool]:
    return lambda: not any(map(_lives, processes))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it went between the two
        return False


def test_two_nodes_do_not_disturb_each_other(broker: PrivateBroker, own_broker: PrivateBroker) -> None:
    broker.add_vhost("mine")
    assert own_broker.port != broker.port
    assert "mine" not in own_broker.ctl("list_vhosts")
    assert own_broker.ctl("cluster_status").count(broker.name) == 0
    own_broker.kill()
    assert "mine" in broker.ctl("list_vhosts")
    assert broker.running
    broker.remove_vhost("mine")


def test_it_listens_on_loopback_only_and_answers_for_prometheus(broker: PrivateBroker) -> None:
    node = psutil.Process(broker.pid)
    listening = [one for one in node.net_connections(kind="tcp") if one.status == psutil.CONN_LISTEN]
    assert {one.laddr.ip for one in listening} == {"127.0.0.1"}
    ports = {one.laddr.port for one in listening}
    assert {int(url.rpartition(":")[2]) for url in (broker.management_url, broker.prometheus_url)} < ports


def test_close_leaves_no_process_and_no_folder(record_property: Callable[[str, object], None]) -> None:
    with PrivateBroker() as node:
        record_property("ready_s", node.ready_s)
        family = _family(node.guardian_pid)
        assert {"epmd", "beam.smp"} <= _names(family)
        assert node.ready_s > 0
        node.close()
        node.close()
        eventually_sync(_all_gone(family), message="node, epmd and guardian have ended")
        assert not node.directory.exists()


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)],
    ids=lambda one: one.name,
)
def test_nothing_outlives_the_parent(number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent.stdin, parent.stdout:
        pid, _, directory = parent.stdout.readline().strip().partition(" ")
        family = _family(int(pid))
        os.killpg(parent.pid, number)  # to the whole group, as the terminal does with Ctrl-C
        parent.wait()
    eventually_sync(_all_gone(family), message="node, epmd and guardian have ended")
    eventually_sync(lambda: not Path(directory).exists(), message="the folder is gone")


async def test_durable_queues_survive_kill_and_restart(own_broker: PrivateBroker) -> None:
    url, before = own_broker.url, own_broker.pid
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("kept", durable=True)
        letter = aio_pika.Message(b"still here", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(letter, queue.name)
    own_broker.kill()
    assert not own_broker.running
    own_broker.start()
    assert (own_broker.url, own_broker.pid != before) == (url, True)
    assert own_broker.ctl("list_queues").split() == ["name", "messages", "kept", "1"]
    own_broker.restart()
    assert own_broker.ctl("list_queues").split() == ["name", "messages", "kept", "1"]


@pytest.mark.versions
def test_rabbitmqctl_leaves_no_epmd_behind(own_broker: PrivateBroker) -> None:
    assert own_broker.ctl("list_vhosts")
    assert len(_epmds(own_broker)) == 1, "the node's own"
    own_broker.kill()
    assert not own_broker.running
    with pytest.raises(BrokerUnreachableError):
        own_broker.ctl("list_vhosts")
    assert _epmds(own_broker) == []


@pytest.mark.long  # other tests kill it and start it again by the handle
def test_a_node_that_died_by_itself_starts_again(own_broker: PrivateBroker) -> None:
    own_broker.start()
    os.kill(own_broker.pid, signal.SIGKILL)
    eventually_sync(lambda: not own_broker.running)
    with pytest.raises(BrokerUnreachableError):
        own_broker.ctl("status")
    with pytest.raises(ConnectionRefusedError):  # neither the node nor rabbitmqctl left an epmd there
        socket.create_connection((layout.LOOPBACK, own_broker.epmd_port)).close()
    assert own_broker.start().running


@pytest.mark.long
@pytest.mark.parametrize("name", ["distribution", "epmd"])
def test_a_first_start_that_loses_a_port_takes_others(tmp_path: Path, name: str) -> None:
    planned = layout.plan(tmp_path, programs())
    with socket.create_server((layout.LOOPBACK, getattr(planned.ports, name))):
        assert layout.port_taken(planned)
        planned.write()
        with PrivateBroker(tmp_path) as node:
            assert node.running
            assert layout.load(tmp_path, programs()) != planned


def test_detached_node_stays_until_it_is_stopped(tmp_path: Path) -> None:
    command = "import json, pathlib, sys; from rabbitray.cluster.broker import start_detached as start;"
    command += "print(json.dumps(start(pathlib.Path(sys.argv[1]))))"
    done = subprocess.run([sys.executable, "-c", command, tmp_path], capture_output=True, text=True, check=True)
    first = json.loads(done.stdout)
    try:
        guardian = psutil.Process(first["pid"]).parent()
        assert guardian is not None
        family = _family(guardian.pid)
        assert start_detached(tmp_path) == first | {"started": False}
        with pytest.raises(ConfigurationError, match="another private node"):
            PrivateBroker(tmp_path).start()
        assert psutil.Process(first["pid"]).is_running()
    finally:
        stopped = stop_detached(tmp_path)
    assert stopped
    eventually_sync(_all_gone(family), message="node, epmd and guardian have ended")
    assert not stop_detached(tmp_path)


@pytest.mark.long
def test_stop_ends_the_node_of_a_guardian_that_was_killed(tmp_path: Path) -> None:
    first = start_detached(tmp_path)
    try:
        node = psutil.Process(int(str(first["pid"])))
        guardian = node.parent()
        assert guardian is not None
        family = _family(guardian.pid)
        guardian.kill()
        eventually_sync(_all_gone([guardian]))
        assert node.is_running()
    finally:
        stopped = stop_detached(tmp_path)
    assert stopped
    eventually_sync(_all_gone(family), message="node and epmd have ended")


def test_the_advice_for_operators_is_understood_by_the_server() -> None:
    advice = Path("cluster/deploy/rabbitmq/rabbitmq.conf").read_text()
    lines = [line.removeprefix("# ") for line in advice.splitlines()]
    settings = [line for line in lines if re.fullmatch(r"[a-z_.]+ = \S+", line)]
    assert len(settings) > 10
    with PrivateBroker(configuration="\n".join(settings)) as node:
        assert "{heartbeat,10}" in node.ctl("environment")


def test_a_setting_that_the_server_refuses_is_told() -> None:
    unknown = PrivateBroker(configuration="lazy_queue_explicit_gc_run_operation_threshold = 1000")
    with pytest.raises(BrokerUnreachableError, match="lazy_queue_explicit"), unknown:
        raise AssertionError("it must not start")
    assert not unknown.directory.exists()
