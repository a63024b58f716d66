"""The handle on a private RabbitMQ node that lives as long as this process at most."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from rabbitray.actors.errors import BrokerUnreachableError, ConfigurationError
from rabbitray.cluster.broker import contact, guardian, layout
from rabbitray.cluster.broker.programs import programs


class PrivateBroker:
    """A RabbitMQ node of our own, for a `with` block or between `start()` and `close()`.

    `directory` keeps the messages between starts; without one a temporary folder is made at once and removed
    by `close()`. Whatever ends this process, SIGKILL included, also ends the node, its epmd and (when it is
    temporary) its folder within a second or so; a node with a directory is given up to 20 s to end in order.
    Ports, name and folder are the same after every start of one handle; `configuration` is added to rabbitmq.conf,
    `plugins` are enabled beside management and Prometheus. `rabbitmq` chooses which RabbitMQ, see `programs`;
    ConfigurationError where a chosen one is missing.
    Not for use from several threads at once.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        configuration: str = "",
        plugins: tuple[str, ...] = (),
        ready_within_s: float = contact.READY_WITHIN_S,
        rabbitmq: str | None = None,
    ) -> None:
        chosen = programs(rabbitmq)
        self._temporary = directory is None
        self.directory = (directory or Path(tempfile.mkdtemp(prefix="rabbitray-broker-"))).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        known = layout.load(self.directory, chosen)
        self._proven = False
        self._layout = replace(
            known or layout.plan(self.directory, chosen), configuration=configuration, plugins=plugins
        )
        self._ready_within_s = ready_within_s
        self._guardian: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._ready_s = 0.0

    @property
    def url(self) -> str:
        """AMQP address of the default vhost."""
        return self._layout.amqp_url()

    @property
    def management_url(self) -> str:
        """Base address of the management API."""
        return self._layout.management_url

    @property
    def prometheus_url(self) -> str:
        """Base address of the node's Prometheus endpoint."""
        return self._layout.prometheus_url

    @property
    def version(self) -> str:
        """RabbitMQ's version, e.g. `4.3.6`."""
        return self._layout.programs.version

    @property
    def name(self) -> str:
        """Erlang node name."""
        return self._layout.name

    @property
    def port(self) -> int:
        """AMQP port on loopback."""
        return self._layout.ports.amqp

    @property
    def epmd_port(self) -> int:
        """Port of the node's own epmd on loopback."""
        return self._layout.ports.epmd

    @property
    def pid(self) -> int:
        """Process id of the Erlang VM of the last start; 0 before the first."""
        return self._pid

    @property
    def guardian_pid(self) -> int:
        """Process id of the guardian; 0 while there is none."""
        return self._guardian.pid if self._guardian else 0

    @property
    def ready_s(self) -> float:
        """Seconds that the last start() took until the node answered."""
        return self._ready_s

    @property
    def running(self) -> bool:
        """Whether the VM lives."""
        return self._ask("status").startswith("up ")

    def start(self) -> Self:
        """Start the node and wait until it answers (about 5 s); does nothing to one that runs.

        Raises ConfigurationError where RabbitMQ is not installed, and BrokerUnreachableError with the end of the node's
        log when it does not become ready.
        """
        began = time.monotonic()
        try:
            self._layout = contact.bring_up(
                self._layout,
                launch=self._launch,
                alive=lambda: self.running,
                proven=self._proven,
                within_s=self._ready_within_s,
            )
        except BrokerUnreachableError:
            self.kill()
            raise
        self._proven = True
        self._ready_s = time.monotonic() - began
        return self

    def stop(self) -> None:
        """End the node in order (about 6 s); what durable queues hold is there again after start()."""
        self._ask("stop")

    def kill(self) -> None:
        """End the node as a crash would: SIGKILL to the VM."""
        self._ask("kill")

    def restart(self) -> Self:
        """stop() and start()."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """End node, epmd and guardian, and remove a temporary folder; may be called twice."""
        if self._guardian is not None:
            self._end_guardian(self._guardian)
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ctl(self, *arguments: str, within_s: float = 60.0) -> str:
        """Run `rabbitmqctl` on the node and return its output; BrokerUnreachableError if it fails."""
        return contact.ctl(self._layout, *arguments, within_s=within_s)

    def api(self, method: str, path: str, body: object = None) -> object:
        """One call of the management API, see `contact.api`."""
        return contact.api(self._layout, method, path, body)

    def add_vhost(self, name: str) -> str:
        """Make a vhost in which `guest` may do everything; returns its AMQP address."""
        vhost = quote(name, safe="")
        self.api("PUT", f"/api/vhosts/{vhost}", {})
        self.api("PUT", f"/api/permissions/{vhost}/guest", {"configure": ".*", "write": ".*", "read": ".*"})
        return self._layout.amqp_url(name)

    def remove_vhost(self, name: str) -> None:
        """Remove a vhost with everything in it; the node closes its connections."""
        self.api("DELETE", f"/api/vhosts/{quote(name, safe='')}")

    def _launch(self, node: layout.Layout) -> None:
        if self._guardian is None or self._guardian.poll() is not None:
            self._guardian = self._new_guardian()
        word, _, pid = self._ask("start").partition(" ")
        self._pid = int(pid) if word == "up" else 0

    def _new_guardian(self) -> subprocess.Popen[bytes]:
        mode = "discard" if self._temporary else "keep"
        return subprocess.Popen(
            [sys.executable, "-I", guardian.__file__, str(self.directory), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )

    def _ask(self, word: str) -> str:
        """One word to the guardian, one line back; `down` when there is none or it has ended."""
        asked = self._guardian
        if asked is None or asked.stdin is None or asked.stdout is None:
            return "down"
        try:
            os.write(asked.stdin.fileno(), f"{word}\n".encode())
            answer = asked.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if answer:
            return answer.decode().strip()
        self._end_guardian(asked)
        if asked.returncode == guardian.BUSY:
            raise ConfigurationError(f"another private node uses {self.directory}: stop it or take another folder")
        return "down"

    def _end_guardian(self, asked: subprocess.Popen[bytes]) -> None:
        """Close the pipes, which is what a crash of ours would do, and wait for the end."""
        self._guardian = None
        for pipe in (asked.stdin, asked.stdout):
            if pipe is not None:
                pipe.close()
        asked.wait()
