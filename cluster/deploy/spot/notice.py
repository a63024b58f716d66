"""Drains this node of Ray once its cloud says that the machine will be taken back; nothing in Ray reads such a notice.

`python -m rabbitray.cluster.deploy.spot.notice` waits for it, on AWS, and ends once the node drains; with `--unit` it
prints the systemd unit that runs it. A drained node gets no new batch; what its workers have, they finish.
"""

from __future__ import annotations

import getpass
import json
import logging
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import click

from rabbitray.cluster.cli.terminal import tell

log = logging.getLogger("rabbitray.spot")

METADATA: Final = "http://169.254.169.254"
"""Of each instance on AWS, link-local."""
TOKEN_PATH: Final = "/latest/api/token"
ACTION_PATH: Final = "/latest/meta-data/spot/instance-action"
EVERY_S: Final = 5.0
"""AWS advises to look every 5 s; the notice comes two minutes before the end."""
ANSWER_WITHIN_S: Final = 2.0
DRAIN_WITHIN_S: Final = 60.0
LEAVE_S: Final = 10.0
"""What is left of the notice's time once the drain's is over: Ray's own processes end then."""

_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Past any proxy: the address is the machine's own."""

UNIT: Final = """\
[Unit]
Description=Drains this node of Ray when its machine is about to be taken back
After=network-online.target

[Service]
User={user}
Environment=RAY_AUTH_MODE=token
ExecStart={python} -m rabbitray.cluster.deploy.spot.notice
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


def notice(metadata: str) -> datetime | None:
    """When this machine will be taken back; None while nobody has said so. Raises OSError where nobody answers."""
    token = _answer(metadata + TOKEN_PATH, "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    try:
        told = _answer(metadata + ACTION_PATH, "GET", {"X-aws-ec2-metadata-token": token})
    except urllib.error.HTTPError as nothing:
        if nothing.code == 404:
            return None
        raise
    return datetime.fromisoformat(json.loads(told)["time"])


def _answer(url: str, method: str, headers: Mapping[str, str]) -> str:
    request = urllib.request.Request(url, method=method, headers=dict(headers))
    with _DIRECT.open(request, timeout=ANSWER_WITHIN_S) as answer:
        text: bytes = answer.read()
    return text.decode()


def drain_s(until: datetime, now: datetime) -> int:
    """Seconds that a node has for what it works on."""
    return max(1, int((until - now).total_seconds() - LEAVE_S))


def wait_for_notice(
    metadata: str, *, every_s: float = EVERY_S, sleep: Callable[[float], None] = time.sleep
) -> datetime:
    """Looks until there is one; a service that does not answer is asked again, and told once."""
    silent = False
    while True:
        try:
            if (until := notice(metadata)) is not None:
                return until
            silent = False
        except (OSError, ValueError, KeyError) as error:
            if not silent:
                log.warning("%s does not say whether this machine stays: %s", metadata, error)
            silent = True
        sleep(every_s)


def drain(seconds: int) -> None:
    """Asks the GCS to drain the node of this machine. Raises CalledProcessError where it cannot be asked."""
    import ray  # a second, and only where there is something to drain

    ray.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
    context = ray.get_runtime_context()
    node, gcs = context.get_node_id(), context.gcs_address
    ray.shutdown()
    words = ("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the cloud takes the machine back")
    command = (sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", gcs, "--node-id", node, *words)
    within = ("--deadline-remaining-seconds", str(seconds))
    subprocess.run((*command, *within), check=True, timeout=DRAIN_WITHIN_S)


def unit() -> str:
    """The systemd unit, for the user and the Python that print it."""
    return UNIT.format(user=getpass.getuser(), python=sys.executable)


@click.command()
@click.option("--metadata", default=METADATA, show_default=True, help="Where the machine's metadata are.")
@click.option("--unit", "as_unit", is_flag=True, help="Print the systemd unit that runs this, and end.")
def main(metadata: str, *, as_unit: bool) -> None:
    """Drain this machine's node of Ray once AWS gives notice that it takes the spot instance back."""
    if as_unit:
        tell(*unit().splitlines())
        return
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    until = wait_for_notice(metadata)
    seconds = drain_s(until, datetime.now(UTC))
    log.info("This machine is taken back at %s: its node of Ray drains, within %d s", until.isoformat(), seconds)
    drain(seconds)


if __name__ == "__main__":
    main()
