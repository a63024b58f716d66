"""Talking to a private node: its management API, `rabbitmqctl`, and whether it is ready."""

from __future__ import annotations

import base64
import json
import re
import select
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from rabbitray.actors.errors import BrokerUnreachableError
from rabbitray.cluster.broker import layout
from rabbitray.cluster.broker.layout import LOOPBACK, Layout

READY_WITHIN_S = 90.0

_FIRST_STARTS = 3
_POLL_S = 0.1
_GUEST = "Basic " + base64.b64encode(b"guest:guest").decode()
_AMQP_0_9_1 = b"AMQP\x00\x00\x09\x01"
_CONSEQUENCES = ("BOOT FAILED", "Error during startup")


def bring_up(
    node: Layout,
    *,
    launch: Callable[[Layout], None],
    alive: Callable[[], bool],
    proven: bool,
    within_s: float,
) -> Layout:
    """Launch the node and wait until it is ready; returns the layout that it runs with.

    A node whose ports nobody knows yet (`proven` is false) tries again on others when one is taken. Raises
    BrokerUnreachableError with the last error of the node's log.
    """
    began = time.monotonic()
    for _ in range(_FIRST_STARTS):
        node.write()
        launch(node)
        if _becomes_ready(node, alive, began + within_s):
            return node
        if proven or alive() or not layout.port_taken(node):
            break
        node = layout.on_other_ports(node)
    raise BrokerUnreachableError(
        f"the private RabbitMQ node on {LOOPBACK}:{node.ports.amqp} was not ready after "
        f"{time.monotonic() - began:.0f} s: {_last_error(node.directory)}{node.note}"
    )


def ready(node: Layout) -> bool:
    """Whether an AMQP handshake begins and the management API answers."""
    if not _greets(node.ports.amqp):
        return False
    try:
        return isinstance(api(node, "GET", "/api/overview"), dict)
    except (OSError, ValueError):
        return False


def api(node: Layout, method: str, path: str, body: object = None, *, within_s: float = 10.0) -> object:
    """One call of the management API: the decoded JSON answer, or None for an empty one.

    `path` starts with `/api/`. Raises urllib.error.HTTPError for an error status and OSError where nothing
    answers.
    """
    request = urllib.request.Request(f"{node.management_url}{path}", method=method)
    request.add_header("Authorization", _GUEST)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=within_s) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def ctl(node: Layout, *arguments: str, within_s: float = 60.0) -> str:
    """Output of one `rabbitmqctl` command; BrokerUnreachableError with its complaint when it fails."""
    done = subprocess.run(
        [node.programs.script("rabbitmqctl"), "-q", "-n", node.name, *arguments],
        env=node.environment(),
        cwd=node.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise BrokerUnreachableError(f"rabbitmqctl {arguments[0]} ended with {done.returncode}: {said[:500]}")
    return done.stdout


def _becomes_ready(node: Layout, alive: Callable[[], bool], deadline: float) -> bool:
    while time.monotonic() < deadline and alive():
        if ready(node):
            return True
        select.select([], [], [], _POLL_S)
    return False


def _greets(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=5.0) as link:
            link.sendall(_AMQP_0_9_1)
            return link.recv(1) == b"\x01"
    except OSError:
        return False


def _log_lines(directory: Path) -> list[str]:
    files = [directory / "out.log", *sorted((directory / "log").glob("*.log"))]
    return [line for file in files if file.exists() for line in file.read_text(errors="replace").splitlines()]


def _last_error(directory: Path) -> str:
    """What the node said just before it gave up.

    "BOOT FAILED" and what follows it are consequences; the server writes them more than once, in either order.
    """
    lines = _log_lines(directory)
    ends = [number for number, line in enumerate(lines) if "BOOT FAILED" in line]
    said = [line.partition("[error] ")[2] for line in lines[: ends[-1] if ends else None] if "[error]" in line]
    causes = [cause for one in said if (cause := re.sub(r"^<[0-9.]+>[ -]*", "", one).strip(" ="))]
    told = [cause for cause in causes if not cause.startswith(_CONSEQUENCES)] or causes
    return told[-1][:300] if told else "it logged no error"
