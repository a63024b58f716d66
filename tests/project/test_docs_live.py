"""The blocks of the docs that need a running pool (`bash test=live`) run beside one, and no block is forgotten.

The pools are started by the documents' own `rabbitray run` lines. What only stands for a value of the reader's is
replaced, see `replaced`; nothing else is.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayError

from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import Publisher, PublisherConfig
from tests.kit.doc_blocks import DOCUMENTS, ROOT, Block, blocks, commands
from tests.kit.eventually import eventually_sync
from tests.kit.live_commands import live_commands
from tests.kit.pool_status import QUIET_REPORT

README, STARTED, OPERATIONS = ROOT / "README.md", ROOT / "docs/getting-started.md", ROOT / "docs/operations.md"
BASH = [block for document in DOCUMENTS for block in blocks(document) if block.language == "bash"]
PARSED_ONLY = {
    "make demo": "installs what is missing, takes minutes; tests/pool/test_driver.py runs the demo, CI the tests",
    "ray up ": "brings machines up, for money; tests/cluster/test_ray_up.py runs what local.yaml says on hosts",
    "ray exec ray-cluster.yaml": "the same machines; tests/cluster/test_whole_cluster.py does it on hosts",
    "rabbitray broker start": "one node for each user of a machine; see tests/broker/test_private_node.py",
    "promtool check": "tests/project/test_alerts.py does it, with more rules to check",
    "export RABBITMQ_URL_FILE=~": "the reader's broker; tests/broker/test_rotated_password.py has such a file",
    'export RABBITMQ_URL="amqps://orders': "nobody's hosts; tests/broker/test_failover.py uses several",
    "rabbitray publish --create --generate 1": "a queue for good; tests/broker/test_publish_and_check.py makes one",
    "RABBITRAY_RABBITMQ=4.3 make faults": "takes half an hour: tests/pool/test_broker_cluster.py itself",
    "python shop.py": "the reader's broker; tests/pool/test_from_celery.py runs it and the pool",
    "umask 077": "would write a token into the home folder of whoever runs the tests",
    "rabbitmqctl set_policy": "needs an installed broker; tests/broker/test_undeliverable.py sets it on a private one",
    "rabbitmqctl list_queues": "the same; tests/broker/test_vanished_queues.py asks a private one",
    "rabbitmqctl add_user": "needs an installed broker; tests/project/test_docs.py gives these rights on a private one",
    "ray job submit --address": "tests/pool/test_ray_dashboard.py submits it on a Ray of its own",
}
"""How blocks begin that are parsed and not run, and why."""


def is_live(block: Block) -> bool:
    return block.marks.get("test") == "live"


def test_every_block_of_commands_is_run_or_has_a_reason() -> None:
    not_run = [block for block in BASH if not block.runs and not is_live(block)]
    assert not [block.where for block in not_run if not block.text.startswith(tuple(PARSED_ONLY))]
    assert not [start for start in PARSED_ONLY if not any(block.text.startswith(start) for block in not_run)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A reader's folder, with the files of README and getting started; a link stands for `pip install .`."""
    (tmp_path / "rabbitray").symlink_to(ROOT / "rabbitray")
    for block in [*blocks(README), *blocks(STARTED)]:
        if "file" in block.marks:
            (tmp_path / block.marks["file"]).write_text(block.text)
    return tmp_path


class Beside:
    """Pools in processes of their own, started by `rabbitray run`, and commands beside them."""

    def __init__(self, folder: Path, amqp_url: str, ray_address: str) -> None:
        own = {"RABBITMQ_URL": amqp_url, "RAY_ADDRESS": ray_address, "RABBITRAY_DEDUPE_CAPACITY": "100000"}
        self._environ = os.environ | own | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self._folder = folder
        self._pools: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, arguments: list[str]) -> None:
        """Starts a pool as the document says, which goes on until `stop`."""
        pool = arguments[arguments.index("--queue") + 1]
        command = [sys.executable, "-m", "rabbitray", *(one for one in arguments if one != "--until-empty")]
        with (self._folder / f"{pool}.log").open("wb") as log:
            self._pools[pool] = subprocess.Popen(
                command, cwd=self._folder, env=self._environ, stdout=log, stderr=subprocess.STDOUT
            )

    def work(self, found: list[list[str]]) -> None:
        """Runs commands, each of which must end with 0; what they print is kept in `commands.log`."""
        with live_commands(self._environ, folder=self._folder) as live:
            try:
                for arguments in found:
                    live.ask(*arguments)
            finally:
                with (self._folder / "commands.log").open("a") as log:
                    log.writelines(live.told)

    def stop(self) -> None:
        """SIGTERM to all, as `ray job stop` does; each must end by itself and with 0."""
        for process in self._pools.values():
            process.send_signal(signal.SIGTERM)
        ended = {pool: process.wait(60) for pool, process in self._pools.items()}
        assert not any(ended.values()), {pool: (self._folder / f"{pool}.log").read_text() for pool in ended}

    def kill(self) -> None:
        """Whatever is left; else a failed test leaves the next one a process to complain of."""
        for process in self._pools.values():
            process.kill()
            process.wait()


@pytest.fixture
def beside(folder: Path, amqp_url: str, ray_cluster: str) -> Iterator[Beside]:
    found = Beside(folder, amqp_url, ray_cluster)
    yield found
    found.kill()


def ask(actor: str, method: str, *arguments: object) -> Any:  # Any: whatever the actor answers
    """The answer of an actor; None while it is not there or still starting."""
    try:
        return ray.get(getattr(ray.get_actor(actor, "rabbitray"), method).remote(*arguments), timeout=10)
    except (ValueError, RayError):
        return None


def when_ready(pool: str) -> None:
    eventually_sync(
        lambda: any(worker.state == "ready" for worker in (ask(f"{pool}-router", "report") or QUIET_REPORT).workers),
        within_s=90,
        message=f"pool {pool} has no worker",
    )


def when_dead(pool: str, count: int) -> None:
    eventually_sync(lambda: (ask(f"{pool}-router", "report") or QUIET_REPORT).counts.dead >= count, within_s=30)


async def publish(amqp_url: str, queue: str, job: Job) -> None:
    async with Publisher(PublisherConfig(url=amqp_url, queue=queue)) as publisher:
        await publisher.publish(job)


def spoken(block: Block) -> list[list[str]]:
    """The arguments of a block's `rabbitray` commands; nothing else may stand in it but `export RABBITMQ_URL=...`."""
    found = list(commands(block))
    foreign = [words for words in found if words[0] != "rabbitray" and not words[-1].startswith("RABBITMQ_URL=")]
    assert not foreign, f"{block.where}: {foreign}"
    return [words[1:] for words in found if words[0] == "rabbitray"]


def replaced(arguments: list[str], values: dict[str, str]) -> list[str]:
    """With what the reader puts in; without a terminal `top` shows one frame."""
    found = [re.sub("|".join(map(re.escape, values)) or "$^", lambda hit: values[hit[0]], word) for word in arguments]
    return [*found, "--once"] if found[0] == "top" else found


def run_of(document: Path) -> list[str]:
    """The document's first `rabbitray run`."""
    return next(
        words[1:] for block in blocks(document) for words in commands(block) if words[:2] == ["rabbitray", "run"]
    )


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_the_live_blocks_run_beside_their_pools(beside: Beside, folder: Path, amqp_url: str) -> None:
    live = [block for block in BASH if is_live(block)]
    assert {block.document for block in live} == {README, STARTED, OPERATIONS}
    told = [words for block in live for words in spoken(block) if words[0] != "run"]
    first = [words for block in live if block.document == README for words in spoken(block) if words[0] != "run"]
    for document in (README, STARTED):
        beside.start(run_of(document))
    when_ready("orders")
    when_ready("greetings")
    beside.work([replaced(words, {}) for words in first])

    asyncio.run(publish(amqp_url, "orders", Job(id="no-object", payload=["x"])))  # the handler wants an object
    when_dead("orders", 2)
    sql = "SELECT id FROM dead_letters WHERE error_class = 'AttributeError'"
    (grave,) = ask("orders-store", "query", sql, 10, 10.0).to_pylist()
    values = {"MESSAGE_ID": "o-1", "3f2a": grave["id"][:8], "/backup": str(folder / "backup")}
    beside.work([replaced(words, values) for words in told if words not in first])
    assert list(folder.glob("backup/orders/**/*.parquet"))
    beside.stop()
