"""A second Ray node beside the session's, on this machine, which a test may kill as a machine dies.

Work is placed there while the session's own node is `occupied`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tests.kit.eventually import eventually_sync


class SecondNode:
    """The processes of one `ray start --block`; `id` is Ray's."""

    def __init__(self, process: subprocess.Popen[bytes], node_id: str) -> None:
        self._process = process
        self.id = node_id

    def kill(self) -> None:
        """SIGKILL to the raylet and to everything below it, all at once. May be called twice."""
        if self._process.poll() is not None:
            return
        root = psutil.Process(self._process.pid)
        for process in [*root.children(recursive=True), root]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait()

    def terminate(self) -> None:
        """SIGTERM to its processes, as a machine does that is shut down."""
        root = psutil.Process(self._process.pid)
        for process in [*root.children(recursive=True), root]:
            process.terminate()

    def freeze(self) -> None:
        """Its processes stand still, as those of a machine do that is suspended or cut off; `thaw` ends it."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """They go on; those that have ended meanwhile do not matter."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        root = psutil.Process(self._process.pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    @property
    def pid(self) -> int:
        """The process above all others of the node."""
        return self._process.pid


@contextmanager
def second_node(
    address: str, *, cpus: int, environ: Mapping[str, str] | None = None, options: Sequence[str] = ()
) -> Iterator[SecondNode]:
    """Adds a node to the cluster at `address` (its GCS), with the token of this test run; `environ`: its own RAY_*;
    `options`: of `ray start`.
    """
    known = {node["NodeID"] for node in ray.nodes()}
    log = Path(tempfile.mkdtemp(prefix="rabbitray-node-"))
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--address", address, "--block",
        "--num-cpus", str(cpus), "--object-store-memory", str(200 * 1024 * 1024), *options,
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | dict(environ or {})
    with (log / "ray-start.log").open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)

    def joined() -> str:
        assert process.poll() is None, (log / "ray-start.log").read_text()
        return next((node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in known), "")

    node = SecondNode(process, "")
    try:
        node.id = eventually_sync(joined, within_s=90, message="the second node did not join")
        yield node
    finally:
        node.kill()
        shutil.rmtree(log, ignore_errors=True)


SESSION_CPUS = 16  # of the node that the fixture `ray_cluster` starts
SESSION_GPUS = 2


class Place:
    """Takes its CPUs and does nothing."""

    def ready(self) -> None:
        """Answers once it is placed."""


def on(node: str) -> NodeAffinitySchedulingStrategy:
    """On this node and no other."""
    return NodeAffinitySchedulingStrategy(node, soft=False)


@contextmanager
def occupied(node: str, cpus: float = SESSION_CPUS - 0.5) -> Iterator[Any]:
    """Nothing that wants a whole CPU is placed on this node, until the actor given is killed."""
    place = ray.remote(Place).options(num_cpus=cpus, scheduling_strategy=on(node)).remote()
    ray.get(place.ready.remote(), timeout=60)
    try:
        yield place
    finally:
        ray.kill(place)
