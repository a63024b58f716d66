"""Runs the tests on more than one RabbitMQ: `python -m tests.on_rabbitmq newest|all [arguments of pytest]`.

newest  all tests on the machine's own, then those with marker `versions` on the newest that can be had, and at last,
        with nothing beside them, those with marker `alone` (`make test`)
all     tests/broker and tests/pool on each, those with marker `each_rabbitmq`, too (`make test-rabbitmq`)

Where RABBITRAY_RABBITMQ is set, everything runs on that one only. A version that cannot be had is one line, and no
failure; the last lines tell on which versions what ran.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rabbitray.actors.errors import ConfigurationError
from rabbitray.cluster.broker.programs import FETCH, programs
from rabbitray.cluster.settings.private_node import RABBITMQ_VARIABLE
from tests.kit.root import ROOT

SERIES: Final = ("3.10", "4.0", "4.3")
"""Those that Debian's releases have, oldest first; rabbitmq.sh knows where."""

NOTHING_CHOSEN: Final = 5
EACH_RABBITMQ: Final = "EACH_RABBITMQ"
"""Set in the environment where there is time for what is marked `each_rabbitmq`."""
PARTS: Final = ("tests/broker", "tests/pool")
ALONE: Final = ("tests/cluster",)


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of pytest: on which RabbitMQ, what, and how it ended."""

    version: str
    what: str
    code: int

    def __str__(self) -> str:
        end = {0: "passed", NOTHING_CHOSEN: "no test was chosen"}.get(self.code, f"FAILED ({self.code})")
        return f"RabbitMQ {self.version}: {self.what}: {end}"


def newest(options: Sequence[str]) -> list[Ran]:
    """Everything on the machine's own (or the chosen) one, what differs between versions on the newest."""
    chosen = os.environ.get(RABBITMQ_VARIABLE, "")
    ran = [_pytest(chosen, "all tests", options)]
    if not chosen and (series := _other_newest()):
        differing = [*_in_parts(options, PARTS), "-m", "versions"]
        ran.append(_pytest(series, "what differs between versions", differing))
    alone = [*_in_parts(options, ALONE), "-n", "0", "-m", "alone"]
    return [*ran, _pytest(chosen, "what runs alone", alone)]


def _other_newest() -> str:
    """The newest series that can be had; empty where that is the machine's own, or none can."""
    series = next(filter(_had, reversed(SERIES)), "")
    return series if series and programs(series).version != programs("").version else ""


def every(options: Sequence[str]) -> list[Ran]:
    """Broker and pool tests on each version."""
    chosen = os.environ.get(RABBITMQ_VARIABLE, "")
    wanted = [chosen] if chosen else [series for series in SERIES if _had(series)]
    return [_pytest(one, " and ".join(PARTS), _in_parts(options, PARTS), whole_pools=True) for one in wanted]


def _in_parts(options: Sequence[str], parts: Sequence[str]) -> list[str]:
    """With the folders to look into, unless somebody named files himself."""
    named = any(Path(option.partition("::")[0]).exists() for option in options)
    return [*options, *(() if named else parts)]


def _had(series: str) -> bool:
    """Whether RabbitMQ of this series is on this machine, or could be fetched."""
    try:
        return bool(programs(series).version)
    except ConfigurationError:
        done = subprocess.run([ROOT / FETCH, series], stdout=subprocess.DEVNULL, check=False)
        return done.returncode == 0


def _pytest(choice: str, what: str, options: Sequence[str], *, whole_pools: bool = False) -> Ran:
    """`whole_pools`: those with marker `each_rabbitmq`, too."""
    command = [sys.executable, "-m", "pytest", *options]
    environ = {**os.environ, RABBITMQ_VARIABLE: choice} | ({EACH_RABBITMQ: "1"} if whole_pools else {})
    code = subprocess.run(command, env=environ, check=False).returncode
    return Ran(programs(choice).version, what, code)


def main(mode: str, *options: str) -> int:
    """Run them; 1 when a run failed."""
    try:
        ran = newest(options) if mode == "newest" else every(options)
    except ConfigurationError as missing:
        print(f"rabbitray: {missing}", file=sys.stderr)  # noqa: T201
        return missing.exit_code
    for one in ran:
        print(f"rabbitray: {one}")  # noqa: T201
    failed = any(one.code not in (0, NOTHING_CHOSEN) for one in ran) or all(one.code for one in ran)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
