"""Which RabbitMQ a private node runs, and what is said where one cannot be had; nothing is started or fetched."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rabbitray.actors.errors import ConfigurationError
from rabbitray.cluster.broker import PrivateBroker
from rabbitray.cluster.broker.programs import FETCH, Programs, programs
from rabbitray.cluster.settings import load
from tests.kit.root import ROOT


def unpacked(folder: Path, version: str) -> Path:
    """A folder as rabbitmq.sh leaves it."""
    sbin = folder / f"root/usr/lib/rabbitmq/lib/rabbitmq_server-{version}/sbin"
    sbin.mkdir(parents=True)
    (sbin / "rabbitmq-server").touch()
    scripts, erlang = (folder / "root/usr/lib" / name / "bin" for name in ("rabbitmq", "erlang"))
    for one in (scripts, erlang):
        one.mkdir(parents=True)
    (scripts / "rabbitmq-server").symlink_to(f"../lib/rabbitmq_server-{version}/sbin/rabbitmq-server")
    (erlang / "epmd").touch()
    return folder


def archive(folder: Path, version: str) -> Path:
    """RabbitMQ's own archive for any Unix."""
    found = folder / f"rabbitmq_server-{version}"
    (found / "sbin").mkdir(parents=True)
    (found / "sbin/rabbitmq-server").touch()
    return found


def test_the_machine_s_own_unless_something_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITRAY_RABBITMQ", "")
    own = Programs(archive(tmp_path, "3.10.8"))
    assert programs(machines=own) is own
    assert programs("3.10", machines=own) is own
    monkeypatch.setenv("RABBITRAY_RABBITMQ", str(own.folder))
    assert programs() == own
    assert programs("") == Programs(), "what a caller says stands above the variable"


def test_a_series_is_looked_for_among_what_was_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own = Programs(archive(tmp_path, "3.10.8"))
    with pytest.raises(ConfigurationError, match=rf"RabbitMQ 4\.3 is not here: run `{FETCH} 4\.3`"):
        programs("4.3", machines=own)
    folder = unpacked(tmp_path / "rabbitray/rabbitmq-4.3", "4.3.6")
    monkeypatch.setenv("RABBITRAY_RABBITMQ", "4.3")
    found = programs(machines=own)
    assert (found, found.version) == (Programs(folder), "4.3.6")
    assert found.erlang("epmd") == str(folder / "root/usr/lib/erlang/bin/epmd")
    with pytest.raises(ConfigurationError, match="rabbitmqctl is missing"):
        found.script("rabbitmqctl")


def test_a_folder_without_a_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"no RabbitMQ in {tmp_path}"):
        PrivateBroker(rabbitmq=str(tmp_path))
    assert programs(str(archive(tmp_path, "4.1.2"))).version == "4.1.2"


def test_the_variable_is_no_unknown_setting() -> None:
    assert load({}, {"RABBITRAY_RABBITMQ": "4.3"}, None).notices == ()


# fetching


def fetch(home: Path, apt_get: str | None, *arguments: str) -> tuple[int, list[str]]:
    """Exit code and lines of the script, with this for an `apt-get`; None: there is none."""
    programs = home / "bin"
    programs.mkdir()
    for name in (
        "sh",
        "dirname",
        "mkdir",
        "sed",
        "head",
        "grep",
        "cut",
        "cat",
        "flock",
        "dpkg",
        "apt-config",
        "apt-cache",
    ):
        if (found := shutil.which(name)) is not None:
            (programs / name).symlink_to(found)
    if apt_get is not None:
        (programs / "apt-get").write_text(f"#!/bin/sh\n{apt_get}\n")
        (programs / "apt-get").chmod(0o755)
    environment = {"HOME": str(home), "PATH": str(programs)}
    done = subprocess.run([ROOT / FETCH, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


OFFLINE = """
codename=$(. /etc/os-release; echo "$VERSION_CODENAME")
case "$1" in
  indextargets) echo "http://mirror.example/debian/ $codename main" ;;
  *) echo "E: Could not resolve 'mirror.example'"; exit 100 ;;
esac
"""


@pytest.mark.parametrize(
    "apt_get", [None, "exit 1", "exit 0", OFFLINE], ids=["no apt", "broken", "no source", "offline"]
)
def test_where_a_version_cannot_be_had_one_line_says_why(tmp_path: Path, apt_get: str | None) -> None:
    code, lines = fetch(tmp_path, apt_get, "4.3")
    assert code == 2
    (line,) = lines
    assert line.startswith("rabbitray: no RabbitMQ 4.3: ")
    if apt_get == OFFLINE and "another system" not in line:
        assert line.endswith("E: Could not resolve 'mirror.example'")
    assert not (tmp_path / ".cache/rabbitray/rabbitmq-4.3").exists()


def test_an_unknown_series_is_refused(tmp_path: Path) -> None:
    assert fetch(tmp_path, None, "3.13") == (2, ["usage: rabbitmq.sh 3.10|4.0|4.3 [FOLDER]"])


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    there = unpacked(tmp_path / "here", "4.3.6")
    (there / "root/usr/lib/rabbitmq/bin/rabbitmq-server").chmod(0o755)
    done = subprocess.run(
        [ROOT / FETCH, "4.3", there], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{there}\n", "")
