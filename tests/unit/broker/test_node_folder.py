"""The private node without a running one: its folder, its log and what is missing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from rabbitray.actors.errors import ConfigurationError
from rabbitray.cluster.broker import PrivateBroker, contact, stop_detached
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


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "x", "ports": {"amqp": 1}}'])
def test_a_damaged_folder_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "node.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"node\.json"):
        PrivateBroker(tmp_path)
