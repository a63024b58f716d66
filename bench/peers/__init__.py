"""The same load through other systems: a full queue, a task that does nothing, two processes.

Celery, Dramatiq, taskiq, FastStream and Ray Serve's asynchronous inference, each in its best documented settings from
`apps/`, out of an environment of their own (.venv-peers, made from requirements.txt when it is missing). They store
their results nowhere, which favours them; rabbitray commits every result before its ack. The rate is that at which
the ready messages go from 95 % to 10 %, read every 50 ms by a passive declare, so start-up does not count. Always on a
private node, since the peers leave queues and exchanges behind. The systems take turns. Ours is read in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.pool import BenchPool, fixed, folder, jobs, local_ray, pool_of, settings
from bench.raw import delete
from bench.spread import medians, rounded, spreads
from bench.usage import load_average
from rabbitray.actors.rabbitmq.depth import DepthProbe
from rabbitray.cluster.broker import PrivateBroker

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ENVIRONMENT = ROOT / ".venv-peers"
LOOK_EVERY_S = 0.05
END_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """How one system is started and how many messages are enough for it. `share`: of the bench's messages."""

    name: str
    app: str
    worker: tuple[str, ...]
    share: float


PEERS = (
    Peer(
        name="celery",
        app="celery_app.py",
        worker=(
            "celery",
            "-A",
            "celery_app",
            "worker",
            "-c",
            "2",
            "-l",
            "ERROR",
            "--without-gossip",
            "--without-mingle",
        ),
        share=0.4,
    ),
    Peer(name="dramatiq", app="dramatiq_app.py", worker=("dramatiq", "dramatiq_app", "-p", "2"), share=0.8),
    Peer(
        name="taskiq",
        app="taskiq_app.py",
        worker=("taskiq", "worker", "taskiq_app:broker", "-w", "2", "--log-level", "ERROR"),
        share=0.6,
    ),
    Peer(
        name="faststream",
        app="faststream_app.py",
        worker=("faststream", "run", "faststream_app:app", "-w", "2", "-l", "error"),
        share=0.6,
    ),
    Peer(name="ray_serve", app="serve_app.py", worker=("python", "serve_app.py"), share=0.1),
)


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """Messages per second of each system, medians; `ratio_to_fastest`: ours over the fastest peer's, by round."""
    rounds, count = (1, 5_000) if quick else (5, 50_000)
    prepare()
    with PrivateBroker() as node, folder() as place, local_ray(2) as session:
        return asyncio.run(_measured(node.url, place, session, rounds, count))


def prepare() -> None:
    """Makes the peers' environment, with uv or pip as this machine is configured for them."""
    wanted = (HERE / "requirements.txt").read_bytes()
    made = ENVIRONMENT / "made-from.txt"
    if made.exists() and made.read_bytes() == wanted:
        return
    python, uv = ENVIRONMENT / "bin" / "python", shutil.which("uv")
    make = [uv, "venv", "--clear", "--python", sys.executable] if uv else [sys.executable, "-m", "venv", "--clear"]
    install = [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
    for command in ([*make, str(ENVIRONMENT)], [*install, "--require-hashes", "-r", str(HERE / "requirements.txt")]):
        subprocess.run(command, check=True, stdout=sys.stderr)
    made.write_bytes(wanted)


async def _measured(url: str, place: Path, session: Any, rounds: int, count: int) -> dict[str, Any]:  # Any: JSON
    rates: dict[str, list[float]] = defaultdict(list)
    async with pool_of(settings(url, place, fixed(2)), session) as pool:
        await pool.pause()
        await _ours(pool, count)
        for _ in range(rounds):
            rates["rabbitray"].append(await _ours(pool, count))
            for peer in PEERS:
                rates[peer.name].append(await _rate(peer, url, int(count * peer.share)))
    fastest = [max(rates[peer.name][turn] for peer in PEERS) for turn in range(rounds)]
    ratio = median(ours / other for ours, other in zip(rates["rabbitray"], fastest, strict=True))
    extra = {"ratio_to_fastest": rounded(ratio, 3), "spread": spreads(rates), "load_average": load_average()}
    return medians(rates) | extra


async def _ours(pool: BenchPool, count: int) -> float:
    await pool.publish(jobs(count))
    url, queue = pool.loaded.settings.rabbitmq_url.reveal(), pool.loaded.settings.queue
    rate, _ = await asyncio.gather(_falling(DepthProbe(url, queue), count), pool.drain_paused(count))
    return rate


async def _rate(peer: Peer, url: str, count: int) -> float:
    """Fills a queue with nobody there, starts the workers, watches the queue fall."""
    environ = _environ(url, f"bench-{peer.name}-{secrets.token_hex(4)}")
    await asyncio.to_thread(_publish, peer, environ, count)
    with _workers(peer, environ):
        rate = await _falling(DepthProbe(url, environ["BENCH_QUEUE"]), count)
    await delete(url, environ["BENCH_QUEUE"])
    return rate


def _publish(peer: Peer, environ: dict[str, str], count: int) -> None:
    command = [str(ENVIRONMENT / "bin" / "python"), peer.app, str(count)]
    subprocess.run(command, cwd=HERE / "apps", env=environ, check=True, stdout=sys.stderr, timeout=300)


def _environ(url: str, queue: str) -> dict[str, str]:
    """Of a peer: its own programs first, and nothing of this bench's Ray."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "VIRTUAL_ENV"))}
    path = f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return kept | {"PATH": path, "BENCH_URL": url, "BENCH_QUEUE": queue, "RAY_AUTH_MODE": "disabled"}


@contextlib.contextmanager
def _workers(peer: Peer, environ: dict[str, str]) -> Iterator[None]:
    """The peer's processes, in a group of their own which ends with the block."""
    program = str(ENVIRONMENT / "bin" / peer.worker[0])
    process = subprocess.Popen(
        [program, *peer.worker[1:]],
        cwd=HERE / "apps",
        env=environ,
        stdin=subprocess.PIPE,
        stdout=sys.stderr,
        start_new_session=True,
    )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        if peer.name != "ray_serve":  # that one ends in order by its standard input
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_WITHIN_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def _falling(probe: DepthProbe, count: int, within_s: float = 120.0) -> float:
    """Messages per second between 95 % and 10 % of the ready messages."""
    samples: list[tuple[float, int]] = []
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        ready = await probe.ready()
        if ready is not None:
            samples.append((time.perf_counter(), ready))
            if ready <= 0.10 * count:
                break
        await asyncio.sleep(LOOK_EVERY_S)
    await probe.close()
    falling = [(at, ready) for at, ready in samples if ready <= 0.95 * count]
    if len(falling) < 2 or falling[-1][1] > 0.10 * count:
        raise RuntimeError(f"the queue did not empty within {within_s:g} s: {samples[-1:]} of {count}")
    (start, most), (end, least) = falling[0], falling[-1]
    return (most - least) / (end - start)


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """One row for each system."""
    rows = ["| no-op, 2 processes | messages/s | least to most | results |", "|---|---:|---:|---|"]
    for name, (low, high) in result["spread"].items():
        stored = "committed before the ack" if name == "rabbitray" else "not stored"
        rows.append(f"| {name.replace('_', ' ')} | {result[name]:,} | {low:,} to {high:,} | {stored} |")
    return "\n".join([*rows, "", f"rabbitray is {result['ratio_to_fastest']} times as fast as the fastest of them."])
