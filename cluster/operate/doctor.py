"""What `rabbitray check` looks at: versions, settings, handler, broker, Ray, results file, disk.

Each examination gives rows and raises nothing of its own: what it cannot look at is a row too.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from rabbitray.actors.errors import ConfigurationError, RabbitrayError, StoreOpenError
from rabbitray.actors.message.formats.named import AUTO
from rabbitray.actors.rabbitmq import addresses
from rabbitray.actors.rabbitmq.consumer_timeout import ConsumerTimeout
from rabbitray.actors.rabbitmq.declare import server_of
from rabbitray.actors.rabbitmq.inspect import Examination, contact, examine, place_of, unreachable
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.rabbitmq.versions import Behaviour
from rabbitray.actors.store.file import StoreLockedError
from rabbitray.actors.store.read_only import results_version
from rabbitray.actors.store.schema import SCHEMA_VERSION
from rabbitray.actors.worker.handler.decoder import require_decoder
from rabbitray.actors.worker.handler.gpus import gpus_hidden
from rabbitray.actors.worker.handler.loading import find
from rabbitray.cluster.driver import checks, compose
from rabbitray.cluster.driver.checks import facts
from rabbitray.cluster.settings import Loaded

Level = Literal["ok", "warn", "refuse"]

LITTLE_SPACE: Final = 1024**3
NO_SPACE: Final = 64 * 1024**2
MIB: Final = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """One finding: where, how bad, what, in one line."""

    area: str
    level: Level
    text: str


def own(loaded: Loaded, cpus: float | None = None) -> Iterator[CheckRow]:
    """Versions, and the relations between settings and this machine."""
    versions = checks.check_versions(checks.installed_versions())
    found = checks.check_settings(loaded.settings, facts(loaded, cpus=cpus))
    for area, findings in (("packages", versions), ("settings", found)):
        yield from (CheckRow(area=area, level=finding.level, text=finding.text) for finding in findings)
        if not findings:
            yield CheckRow(area=area, level="ok", text="nothing to say")


def handler(loaded: Loaded) -> Iterator[CheckRow]:
    """Whether the handler can be loaded; imports the user's module."""
    name = loaded.settings.handler
    if name is None:
        return
    try:
        with gpus_hidden():
            find(name)
    except ConfigurationError as error:
        yield CheckRow(area="handler", level="refuse", text=str(error))
    else:
        yield CheckRow(area="handler", level="ok", text=f"{name} can be loaded")


def decoder(loaded: Loaded) -> Iterator[CheckRow]:
    """Whether the decoder can be loaded; imports the user's module."""
    name = loaded.settings.decoder
    if name == AUTO:
        return
    try:
        with gpus_hidden():
            require_decoder(name)
    except ConfigurationError as error:
        yield CheckRow(area="decoder", level="refuse", text=str(error))
    else:
        yield CheckRow(area="decoder", level="ok", text=f"{name} can be loaded")


async def broker(loaded: Loaded) -> list[CheckRow]:
    """Reach, login, each queue with its arguments; nothing is created."""
    settings = loaded.settings
    try:
        async with contact(settings.rabbitmq_url, within_s=settings.connect_timeout_s) as connection:
            server = server_of(connection)
            rows = [_ok("broker", f"{server} at {place_of(connection)}, login accepted")]
            if server.note is not None:
                rows.append(CheckRow(area="broker", level="warn", text=server.note))
            others = await unreachable(settings.rabbitmq_url, connection, within_s=settings.connect_timeout_s)
            rows += [CheckRow(area="broker", level="warn", text=line) for line in others]
            found = await examine(connection, compose.topology(settings))
            rows += _examined(found)
    except RabbitrayError as error:
        return [CheckRow(area="broker", level="refuse", text=str(error))]
    return [
        *rows,
        _consumer_timeout(compose.consumer_timeout(settings), server.behaviour, found.queue_type, settings.queue),
        _ok("broker", policies_unseen(compose.topology(settings), addresses.vhost(settings.rabbitmq_url))),
    ]


def _consumer_timeout(timeout: ConsumerTimeout, broker: Behaviour, queue_type: str | None, queue: str) -> CheckRow:
    """How long this broker leaves a message unsettled, as far as that can be known over AMQP."""
    if (refused := timeout.refusal(broker, queue_type, queue)) is not None:
        return CheckRow(area="broker", level="refuse", text=refused)
    return _ok("broker", timeout.words(broker, queue_type))


def policies_unseen(topology: Topology, vhost: str) -> str:
    """What nobody sees over AMQP, and the commands that show it."""
    where = f"-p {shlex.quote(vhost)}"
    return (
        "policies cannot be seen over AMQP, and one with expires, message-ttl or max-length deletes what waits in "
        f"{topology.dead_queue} and the rungs: `rabbitmqctl list_queues {where} name policy` names that of each queue, "
        f"`rabbitmqctl list_policies {where}` and `rabbitmqctl list_operator_policies {where}` what they say"
    )


def _examined(found: Examination) -> Iterator[CheckRow]:
    for queue in found.queues:
        if queue.there is False:
            yield _ok("broker", f"queue {queue.name!r} does not exist yet: the pool creates it")
        elif queue.ready is not None and queue.refused is None:
            yield _ok("broker", f"queue {queue.name!r}: {queue.ready:,} ready")
    yield from (CheckRow(area="broker", level="warn", text=warning) for warning in found.warnings)
    yield from (CheckRow(area="broker", level="refuse", text=refused) for refused in found.refused)
    if not found.lacking:
        yield _ok("broker", "this user may consume, retry and park")


def results(loaded: Loaded) -> Iterator[CheckRow]:
    """Whether the results file can be used, and the space beside it."""
    path = loaded.settings.results.absolute()
    try:
        version = results_version(path)
    except StoreLockedError as locked:
        yield CheckRow(area="results", level="warn", text=str(locked))
    except StoreOpenError as error:
        if path.exists():
            yield CheckRow(area="results", level="refuse", text=str(error))
        else:
            yield _new_file(path)
    else:
        yield _opened(path, version)
    yield _space(path)


def _opened(path: Path, version: int | None) -> CheckRow:
    said = f"{path} has schema version {version}, this program writes {SCHEMA_VERSION}"
    if version is not None and version > SCHEMA_VERSION:
        return CheckRow(area="results", level="refuse", text=f"{said}: use the program that made it, or another file")
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)):
        text = f"{path} cannot be written: no right to write it, or in {path.parent}, where its log goes"
        return CheckRow(area="results", level="refuse", text=text)
    if version is not None and version < SCHEMA_VERSION:
        return _ok("results", f"{said}: the next run brings it there, after which an older program refuses it")
    return _ok("results", f"{path} can be opened")


def _new_file(path: Path) -> CheckRow:
    folder = next(parent for parent in path.parents if parent.exists())
    if os.access(folder, os.W_OK | os.X_OK):
        return _ok("results", f"{path} does not exist yet: the pool creates it")
    return CheckRow(area="results", level="refuse", text=f"{path} cannot be created: no right to write in {folder}")


def _space(path: Path) -> CheckRow:
    folder = next(parent for parent in path.parents if parent.exists())
    free = shutil.disk_usage(folder).free
    level: Level = "refuse" if free < NO_SPACE else "warn" if free < LITTLE_SPACE else "ok"
    return CheckRow(area="disk", level=level, text=f"{free // MIB:,} MiB free in {folder}")


def _ok(area: str, text: str) -> CheckRow:
    return CheckRow(area=area, level="ok", text=text)
