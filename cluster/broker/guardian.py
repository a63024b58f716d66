"""The guardian of one private node: it owns the node's processes, so that none outlives who asked for it.

It is run by its path, in a session of its own, with the standard library only. Attached, it obeys one word a
line on standard input (`start`, `stop`, `kill`, `status`) and answers each with `up PID` or `down`; the end
of its input or the death of its parent, SIGKILL included, ends the node. Detached, it starts the node at once
and stays until SIGTERM. `discard` also removes the directory at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

BUSY = 3
"""Exit code when another guardian has the directory."""

_TICK_S = 0.2
_SHORT_TICK_S = 0.02
_GRACE_S = 20.0
_EPMD_WITHIN_S = 5.0


class Guardian:
    """Starts and ends the node in `directory`; `stopping` is set by SIGTERM, SIGINT and SIGHUP."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._node: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self.stopping = False

    @property
    def up(self) -> bool:
        """Whether the node's VM lives."""
        return self._node is not None and self._node.poll() is None

    def reap(self) -> None:
        """Let go of a node that ended by itself, so that its pid is really gone, and end its epmd."""
        if not self.up:
            self._end_epmd()

    def answer(self) -> str:
        """`up PID` or `down`; after `down` nothing of the node is left."""
        self.reap()
        return f"up {self._node.pid}" if self.up and self._node else "down"

    def start(self) -> None:
        """Start epmd (a member of a cluster uses the cluster's), then the node; does nothing while the node lives."""
        if self.up:
            return
        self._end_epmd()
        launch = json.loads((self._directory / "launch.json").read_text())
        if launch["epmd"]:
            self._epmd = self._spawn(launch["epmd"], launch["environment"])
        if listening(launch["epmd_port"], self._epmd):
            self._node = self._spawn(launch["server"], launch["environment"])
            ours = [one.pid for one in (self._node, self._epmd) if one is not None]
            self._record(os.getpid(), *ours)

    def stop(self) -> None:
        """End the node in order (SIGTERM), by force after 20 s, then its epmd."""
        if self.up and self._node:
            self._node.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._node.wait(_GRACE_S)
        self.kill()

    def kill(self) -> None:
        """End the node's whole session now (SIGKILL), then its epmd."""
        if self._node is not None:
            _kill_group(self._node)
        self._end_epmd()

    def _record(self, *pids: int) -> None:
        """Leave word of our processes, for `stop_detached` should this guardian itself be killed."""
        fresh = self._directory / "processes.json.new"
        fresh.write_text(json.dumps([{"pid": pid, "started": started(pid)} for pid in pids]))
        fresh.replace(self._directory / "processes.json")

    def _end_epmd(self) -> None:
        if self._epmd is not None:
            _kill_group(self._epmd)
            self._epmd = None

    def _spawn(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self._directory / "out.log").open("ab") as log:
            return subprocess.Popen(
                command,
                env=environment,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def started(pid: int) -> str:
    """When process `pid` started (boot and clock ticks), or "" when there is none; a pid alone is re-used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    zombie = fields[0] in "ZX"
    return "" if zombie else f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{fields[19]}"


def _kill_group(leader: subprocess.Popen[bytes]) -> None:
    if leader.poll() is None:  # not reaped yet, so the pid cannot be another's
        os.killpg(leader.pid, signal.SIGKILL)
        leader.wait()


def listening(port: int, epmd: subprocess.Popen[bytes] | None) -> bool:
    """Whether the epmd answers, ours where it is given: were the node earlier, it would start a daemon that nobody
    ends.
    """
    deadline = time.monotonic() + _EPMD_WITHIN_S
    while time.monotonic() < deadline and (epmd is None or epmd.poll() is None):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as link:
                link.sendall(b"\x00\x01n")  # NAMES_REQ; the answer begins with epmd's own port
                if link.recv(4) == port.to_bytes(4, "big"):
                    return epmd is None or epmd.poll() is None
        except OSError:
            pass
        select.select([], [], [], _SHORT_TICK_S)
    return False


def attached(guardian: Guardian) -> None:
    """Obey the parent until its end of the pipe closes, it dies, or a signal comes."""
    parent = os.getppid()
    words = {"start": guardian.start, "stop": guardian.stop, "kill": guardian.kill}
    while not guardian.stopping and os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], _TICK_S)
        if not readable:
            guardian.reap()
            continue
        word = os.read(0, 64).decode().strip()
        if not word:
            return
        words.get(word, guardian.reap)()
        try:
            os.write(1, f"{guardian.answer()}\n".encode())
        except BrokenPipeError:
            return


def detached(guardian: Guardian) -> None:
    """Go on in a child of our own, and keep the node until a signal comes or it ends by itself.

    The process that was called ends as soon as the node is launched, so that its caller has nobody to reap.
    """
    launched, launching = os.pipe()
    if os.fork():
        os.close(launching)
        os.read(launched, 1)
        os._exit(0)
    guardian.start()
    os.close(launching)
    while not guardian.stopping and guardian.up:
        select.select([], [], [], _TICK_S)


def main(directory: Path, mode: str) -> int:
    """Guard the node in `directory`; `mode` is keep, discard or detached. BUSY: somebody else guards it."""
    guardian = Guardian(directory)

    def note(_signal: int, _frame: object) -> None:
        guardian.stopping = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, note)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return BUSY
        try:
            (detached if mode == "detached" else attached)(guardian)
        finally:
            guardian.kill() if mode == "discard" else guardian.stop()
    if mode == "discard":
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
