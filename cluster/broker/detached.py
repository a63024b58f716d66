"""A private node that stays after the command that started it, until it is stopped."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rabbitray.actors.errors import BrokerUnreachableError, ConfigurationError
from rabbitray.cluster.broker import contact, guardian, layout
from rabbitray.cluster.broker.programs import programs

_ENDS_WITHIN_S = 30.0
_RECORD = "processes.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process by pid and start time, so that a pid that was given out again is never mistaken for it."""

    pid: int
    started: str

    @property
    def alive(self) -> bool:
        """Whether this very process lives."""
        return self.started != "" and guardian.started(self.pid) == self.started

    def signal(self, number: int) -> None:
        """Send a signal if it lives."""
        if self.alive:
            os.kill(self.pid, number)

    def gone(self, within_s: float) -> bool:
        """Wait for its end; False if it still lives after `within_s`."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            return not self.alive or bool(select.select([handle], [], [], within_s)[0])
        finally:
            os.close(handle)


def start_detached(directory: Path, *, ready_within_s: float = contact.READY_WITHIN_S) -> dict[str, object]:
    """Start the node of `directory` and leave it running; one that runs already is left as it is.

    Returns `{directory, url, management_url, prometheus_url, node, pid, started}`; `started` is false when it
    ran before. Raises ConfigurationError where RabbitMQ is missing, BrokerUnreachableError when it does not
    become ready.
    """
    chosen = programs()
    chosen.script("rabbitmq-server")
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    known = layout.load(directory, chosen)
    if known is not None and _lives(directory) and contact.ready(known):
        return _state(known, started=False)
    node = contact.bring_up(
        known or layout.plan(directory, chosen),
        launch=_launch,
        alive=lambda: _lives(directory),
        proven=False,
        within_s=ready_within_s,
    )
    return _state(node, started=True)


def stop_detached(directory: Path) -> bool:
    """End the node of `directory` in order, by force after 30 s; its messages stay in the directory.

    Returns whether one ran. Only the very processes that the node's guardian recorded are ended.
    """
    directory = directory.absolute()
    processes = _processes(directory)
    ran = any(process.alive for process in processes)
    for process in processes:  # the guardian first: it ends the other two itself
        process.signal(signal.SIGTERM)
        if not process.gone(_ENDS_WITHIN_S):
            process.signal(signal.SIGKILL)
            process.gone(_ENDS_WITHIN_S)
    (directory / _RECORD).unlink(missing_ok=True)
    return ran


def _launch(node: layout.Layout) -> None:
    command = [sys.executable, "-I", guardian.__file__, str(node.directory), "detached"]
    quiet = subprocess.DEVNULL
    done = subprocess.run(
        command, stdin=quiet, stdout=quiet, stderr=quiet, cwd="/", start_new_session=True, check=False
    )
    if done.returncode not in (0, guardian.BUSY):
        raise BrokerUnreachableError(f"the guardian of {node.directory} ended with {done.returncode}")


def _processes(directory: Path) -> list[Process]:
    """Guardian, node and epmd as the guardian recorded them; empty when there was none."""
    record = directory / _RECORD
    if not record.exists():
        return []
    try:
        return [Process(pid=int(one["pid"]), started=str(one["started"])) for one in json.loads(record.read_text())]
    except (ValueError, TypeError, KeyError) as broken:
        raise ConfigurationError(f"{record} is damaged ({broken!r}): end the node by hand") from broken


def _lives(directory: Path) -> bool:
    processes = _processes(directory)
    return bool(processes) and all(process.alive for process in processes)


def _state(node: layout.Layout, *, started: bool) -> dict[str, object]:
    return {
        "directory": str(node.directory),
        "url": node.amqp_url(),
        "management_url": node.management_url,
        "prometheus_url": node.prometheus_url,
        "node": node.name,
        "pid": _processes(node.directory)[1].pid,
        "started": started,
    }
