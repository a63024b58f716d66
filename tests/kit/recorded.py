"""What an earlier version left behind: queues as they were declared, messages to the byte, its results file.

`record_upgrade.py` writes it, `test_upgrade.py` works it. Each message keeps the bytes of its AMQP properties as they
came from the broker: a client that reads them and writes them again would change the types of header values.
"""

from __future__ import annotations

import base64
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pika
import pika.spec

KEPT = next(parent for parent in Path(__file__).resolve().parents if parent.name == "tests") / "kept"


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """One message. `body` and `properties`: base64; `shown`: the properties for people, not read by anything."""

    queue: str
    body: str
    properties: str
    shown: dict[str, Any]


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a message ends once this version has worked everything and replayed the dead letters.

    `ends`: done, or the reason in the dead letters. `first`: the reason before the replay, empty for none.
    """

    ends: str
    attempts: int
    first: str = ""


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """All that one pool of `commit` left. Arguments of queues are [AMQP type, value] by name.

    `finished`: keys that have a row in the results file; `again`: those of them that are in the queue once more.
    `nameless`: messages in the queue without any id.
    """

    commit: str
    rabbitmq: str
    settings: dict[str, Any]
    results: str
    exchanges: list[dict[str, Any]]
    queues: list[dict[str, Any]]
    bindings: list[dict[str, Any]]
    finished: list[str]
    again: list[str]
    nameless: int
    expected: dict[str, Ending]
    messages: list[Left]


class RawProperties(pika.BasicProperties):
    """Properties that are written as these bytes, and keep the bytes that they were read from."""

    def __init__(self, raw: bytes = b"") -> None:
        super().__init__()
        self.raw = raw

    def decode(self, encoded: bytes, offset: int = 0) -> Any:
        """As pika does, and keep the bytes."""
        self.raw = encoded[offset:]
        return super().decode(encoded, offset)

    def encode(self) -> list[bytes]:
        """The bytes."""
        return [self.raw]


@contextmanager
def raw_channel(url: str) -> Iterator[Any]:
    """A channel of pika, with confirms; nothing of rabbitray is in it."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel
    finally:
        connection.close()


@contextmanager
def reading_raw() -> Iterator[None]:
    """Messages that pika reads meanwhile keep the bytes of their properties."""
    known = pika.spec.props[pika.spec.Basic.INDEX]
    pika.spec.props[pika.spec.Basic.INDEX] = RawProperties
    try:
        yield
    finally:
        pika.spec.props[pika.spec.Basic.INDEX] = known


def restore(url: str, recording: Recording) -> None:
    """Declare what was declared and publish what was left, into the queue in which it lay.

    A quorum queue adds `x-delivery-count` as it delivers, so what is recorded of one carries it from the start.
    """
    with raw_channel(url) as channel:
        for exchange in recording.exchanges:
            channel.exchange_declare(exchange["name"], exchange["type"], durable=exchange["durable"])
        for queue in recording.queues:
            flags = {name: queue[name] for name in ("durable", "auto_delete", "arguments")}
            channel.queue_declare(queue["name"], **flags)
        for binding in recording.bindings:
            channel.queue_bind(binding["destination"], binding["source"], binding["routing_key"])
        for left in recording.messages:
            properties = RawProperties(base64.b64decode(left.properties))
            channel.basic_publish("", left.queue, base64.b64decode(left.body), properties, mandatory=True)


def recordings() -> list[Path]:
    """Every recording that is kept."""
    return sorted(KEPT.glob("left-by-*.json"))


def read(path: Path) -> Recording:
    """One recording."""
    return msgspec.json.decode(path.read_bytes(), type=Recording)


def pack_results(results: Path, archive: Path) -> None:
    """Keep a results file that nobody has open, with its side files."""
    with tarfile.open(archive, "w:xz") as packed:
        for part in (results, results.with_name(results.name + ".dedupe")):
            packed.add(part, part.name, filter=_nobodys)


def unpack_results(archive: Path, folder: Path) -> Path:
    """Put a kept results file with its side files into `folder`; the file."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / "results.duckdb"


def kept_results() -> Sequence[Path]:
    """Every kept results file: `results-v<schema version>-<what>.tar.xz`."""
    return sorted(KEPT.glob("results-v*.tar.xz"))


def version_of(archive: Path) -> int:
    """The schema version of a kept results file, by its name."""
    return int(archive.name.removeprefix("results-v").split("-")[0])


def _nobodys(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
