"""The private node without a running one: its folder, its log and what is missing."""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from rabbitray.actors.errors import ConfigurationError
from rabbitray.cluster.broker import PrivateBroker, contact, layout, stop_detached
from rabbitray.cluster.broker.layout import Ports
from rabbitray.cluster.broker.programs import Programs


def test_stop_may_come_twice_and_before_start(tmp_path: Path) -> None:
    node = PrivateBroker(tmp_path / "node")
    node.stop()
    node.kill()
    node.close()
    node.close()
    assert (node.running, node.pid, node.directory.exists()) == (False, 0, True)


def test_a_reused_pid_is_never_ended(tmp_path: Path) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as innocent:
        record = [{"pid": innocent.pid, "started": "an earlier boot:1"}] * 3
        (tmp_path / "processes.json").write_text(json.dumps(record))
        assert not stop_detached(tmp_path)
        assert innocent.poll() is None
        innocent.terminate()


@pytest.mark.parametrize("again", [False, True])
def test_the_cause_is_told_in_either_order_of_the_log(tmp_path: Path, again: bool) -> None:
    at = "2026-11-24 16:17:52.175784+00:00 [error] <0.132.0> "
    cause = [f"{at}  - Conf file attempted to set unknown variable: x"]
    end = [f"{at}BOOT FAILED", f"{at}===========", f"{at}Error during startup: {{error,failed}}", at]
    said = "BOOT FAILED\n===========\nError during startup: {error,failed}\n"
    (tmp_path / "log").mkdir()
    (tmp_path / "out.log").write_text("" if again else said)
    (tmp_path / "log" / "node.log").write_text("\n".join([*cause, *end, *([said] if again else [])]))
    assert contact._last_error(tmp_path) == "Conf file attempted to set unknown variable: x"


def test_a_missing_server_is_one_line_that_says_what_to_install() -> None:
    with pytest.raises(ConfigurationError, match=r"apt-get install .*rabbitmq-server") as told:
        Programs().script("rabbitmq-server-that-nobody-has")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("made_by", "says"), [("", ""), ("4.0.5", ""), ("3.10.8", "made by RabbitMQ 3.10.8")])
def test_a_folder_that_another_rabbitmq_made_is_told(tmp_path: Path, made_by: str, says: str) -> None:
    """Where the node does not start; what an earlier version of ours wrote does not tell."""
    (tmp_path / "rabbitmq_server-4.0.5/sbin").mkdir(parents=True)
    (tmp_path / "rabbitmq_server-4.0.5/sbin/rabbitmq-server").touch()
    programs = Programs(tmp_path / "rabbitmq_server-4.0.5")
    kept = {"name": "x@localhost", "ports": dict.fromkeys(Ports.__slots__, 1)} | (
        {"rabbitmq": made_by} if made_by else {}
    )
    (tmp_path / "node.json").write_text(json.dumps(kept))
    found = layout.load(tmp_path, programs)
    assert found is not None
    assert says in found.note
    assert bool(found.note) is bool(says)


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "x", "ports": {"amqp": 1}}'])
def test_a_damaged_folder_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "node.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"node\.json"):
        PrivateBroker(tmp_path)


def test_members_of_a_cluster_share_a_cookie_and_an_epmd_that_none_of_them_starts(tmp_path: Path) -> None:
    """With an epmd of its own, a node that is killed would take along where the others are found."""
    names = ("one@localhost", "two@localhost")
    for name in names:
        member = layout.Member(name=name, names=names, epmd_port=1, cookie="SHARED")
        node = layout.plan(tmp_path / name, _fake_programs(tmp_path), member)
        node.write()
        launch = json.loads((node.directory / "launch.json").read_text())
        assert (node.name, launch["epmd"], launch["environment"]["ERL_EPMD_PORT"]) == (name, [], "1")
        cookie = node.directory / ".erlang.cookie"
        assert (cookie.read_text(), cookie.stat().st_mode & 0o777) == ("SHARED", 0o400)
        assert [line for line in (node.directory / "rabbitmq.conf").read_text().splitlines() if "@" in line] == [
            "cluster_formation.classic_config.nodes.1 = one@localhost",
            "cluster_formation.classic_config.nodes.2 = two@localhost",
        ]
        node.write()  # at each start; the cookie cannot be written again
        assert layout.on_other_ports(node).ports.epmd == 1


def test_an_epmd_on_the_port_of_a_cluster_is_as_it_should_be(tmp_path: Path) -> None:
    with socket.create_server((layout.LOOPBACK, 0)) as epmd:
        port = epmd.getsockname()[1]
        member = layout.Member(name="one@localhost", names=("one@localhost",), epmd_port=port, cookie="SHARED")
        assert not layout.port_taken(layout.plan(tmp_path, _fake_programs(tmp_path), member))
        alone = layout.plan(tmp_path, _fake_programs(tmp_path))
        assert layout.port_taken(replace(alone, ports=replace(alone.ports, epmd=port)))


def _fake_programs(folder: Path) -> Programs:
    for name in ("rabbitmq/bin/rabbitmq-server", "erlang/bin/erl", "erlang/bin/epmd"):
        path = folder / "root/usr/lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Programs(folder)
