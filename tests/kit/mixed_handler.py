"""The handler of the mixed messages, which fails by a rule on their number; and what it is told of each, as plain JSON.

Every run is noted in the folder that a message names, so that first runs, retries and replays can be compared with what
was sent.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from rabbitray import Job, Message, Reject, Retry

CLOSED = "closed"
"""The file in the folder of the messages for as long as those that are to die are refused."""

OF_A_DELIVERY = ("body", "expires_at", "redelivered", "delivery_count")
"""Fields of a Message that no producer writes, or that are compared by other means."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one message. `record`: see `record_of`; times in Unix ms."""

    id: str
    attempt: int
    at_ms: int
    expires_ms: int | None
    record: dict[str, str]


def handle(job: Job, message: Message) -> dict[str, str]:
    """Notes the run, then fails or returns what it was told."""
    name, folder = named_in(job.payload)
    record = record_of(msgspec.structs.asdict(message), message.body, job.payload)
    expires_ms = None if message.expires_at is None else round(message.expires_at.timestamp() * 1_000)
    note = Run(
        id=name, attempt=job.attempt, at_ms=time.time_ns() // 1_000_000, expires_ms=expires_ms, record=record
    )  # fmt: skip
    with (folder / f"runs-{os.getpid()}").open("ab") as file:
        file.write(msgspec.json.encode(note) + b"\n")
    _fail(number_of(name), job.attempt, (folder / CLOSED).exists())
    return {"id": name} | record


def retries_of(number: int) -> int:
    """How often a message of this number is to be retried; of one that dies: after its replay.

    By `Retry`, which the pool never takes for an outage: retried messages come in bursts, all of which fail.
    """
    return 1 if number % 20 == 13 else {1: 1, 2: 2}.get(number % 10, 0)


def dies(number: int) -> bool:
    """Whether a message of this number is to be a dead letter first."""
    return number % 10 == 3


def number_of(name: str) -> int:
    """The number in an id."""
    return int(name.rpartition("-")[2])


def _fail(number: int, attempt: int, closed: bool) -> None:
    if dies(number) and closed:
        raise Reject("closed today")
    if attempt < retries_of(number):
        raise Retry("told to retry")


def named_in(payload: Any) -> tuple[str, Path]:
    """The id and the folder that a message names, in whatever form it came."""
    match payload:
        case {"id": str(name), "folder": str(folder)}:
            return name, Path(folder)
        case {"kwargs": document} | [_, document, _]:  # Dramatiq's, Celery's
            return named_in(document)
        case bytes():
            return named_in(payload.partition(b"\n")[0].decode())
    name, folder = payload.split()[:2]
    return name, Path(folder)


def record_of(properties: Mapping[str, Any], body: bytes, payload: Any) -> dict[str, str]:
    """What is compared of a message: each property but OF_A_DELIVERY, headers one by one, body and payload by hash."""
    found = {name: canonical(value) for name, value in properties.items() if name not in (*OF_A_DELIVERY, "headers")}
    found |= {f"header {name}": canonical(value) for name, value in (properties["headers"] or {}).items()}
    return found | {"body": body_hash(body), "payload": body_hash(canonical(payload).encode())}


def runs_in(folder: Path) -> Iterator[Run]:
    """All runs that were noted."""
    for file in folder.glob("runs-*"):
        yield from (msgspec.json.decode(line, type=Run) for line in file.read_bytes().splitlines())


def canonical(value: Any) -> str:
    """A value of a header or a payload as text; values of two types, or of one with another content, have two texts."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)


def _plain(value: Any) -> Any:
    match value:
        case bytes() | bytearray():
            return {"bytes": value.hex()}
        case datetime():
            return {"time": (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()}
        case Decimal():
            return {"decimal": str(value)}
        case Mapping():
            return {f"{type(name).__name__} {name}": _plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
    return value


def body_hash(data: bytes) -> str:
    """Bytes, in short."""
    return f"{len(data)} bytes {hashlib.sha256(data).hexdigest()[:16]}"
