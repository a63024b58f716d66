"""`rabbitray submit` as its users type it, in a project of theirs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.kit.root import ROOT

HANDLER: Final = """\
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from shop import prices


@dataclass
class Order:
    sku: str
    count: int


def handle(order: Order) -> dict:
    time.sleep(0.01)
    key = hashlib.sha256(os.environ["SHOP_KEY"].encode()).hexdigest()
    return {"total": prices.of(order.sku) * order.count, "key": key, "scratch": Path("scratch").exists()}
"""


def shop(folder: Path) -> Path:
    """A project with a package, and what must not be uploaded."""
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "orders.py").write_text(HANDLER)
    (folder / "shop" / "prices.py").write_text("def of(sku):\n    return {'A-7': 3}[sku]\n")
    (folder / "scratch").mkdir()
    (folder / "scratch" / "x.csv").write_text("x" * 100_000)
    (folder / ".gitignore").write_text("scratch\n")
    (folder / "rabbitray.toml").write_text("drain_deadline_s = 20\ninitial_size = 2\nmax_size = 2\n")
    return folder


def secrets_file(folder: Path, **variables: str) -> Path:
    """A file of secrets that only we can read."""
    file = folder / "secrets"
    file.touch(mode=0o600)
    file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    return file


@dataclass(kw_only=True)
class Submitted:
    """A `rabbitray submit` that runs."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self, within_s: float = 120.0) -> int:
        """Its exit code."""
        try:
            return self.process.wait(within_s)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                print(self.told())  # noqa: T201 # why it hangs

    def told(self) -> str:
        """All that it printed so far."""
        return self.out.read_text() + self.err.read_text()

    @property
    def json(self) -> Any:
        """What it printed on standard output, which must be one JSON value."""
        return json.loads(self.out.read_text())


def submit(project: Path, queue: str, *more: str, **environ: str) -> Submitted:
    """Starts one in `project`, for a queue; its results go beside the project. `environ`: None of ours is secret."""
    ours = {"PYTHONPATH": str(ROOT)}
    words = [
        *("--handler", "shop.orders:handle", "--queue", queue, "--dedupe-capacity", "100000"),
        *("--results", str(project.parent / "results.duckdb"), "--python", sys.executable),
        *("--runtime-env-json", json.dumps({"env_vars": ours}), "--secrets-file", str(project.parent / "secrets")),
    ]
    stamp = f"{queue}-{time.monotonic_ns()}"
    out, err = (project.parent / f"{stamp}.{kind}" for kind in ("out", "err"))
    environment = {name: value for name, value in os.environ.items() if name not in ("RABBITMQ_URL", "RAY_ADDRESS")}
    with out.open("wb") as to_out, err.open("wb") as to_err:
        process = subprocess.Popen(
            [sys.executable, "-m", "rabbitray", "submit", *words, *more],
            cwd=project,
            env=environment | ours | environ,
            stdout=to_out,
            stderr=to_err,
        )
    return Submitted(process=process, out=out, err=err)
