"""Decoders of a user's, good and bad, by name."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from rabbitray import Decoded, Job, Reject, Retry
from rabbitray.actors.errors import DecodeError

NO_DECODER = 7


def upper(body: bytes, message: Any) -> str:
    """A payload alone."""
    return body.decode().upper()


def steered(body: bytes, message: Any) -> Any:
    """Does what the body says."""
    match body.decode("latin-1").split():
        case ["ok", text]:
            return Decoded(payload=text, key=f"k-{text}", message_type="T")
        case ["raise", name]:
            raise {"value": ValueError, "connection": ConnectionError, "timeout": TimeoutError}[name]("told to raise")
        case ["reject"]:
            raise Reject("never")
        case ["retry", after_s]:
            raise Retry("later", after_s=float(after_s))
        case ["die"]:
            os._exit(3)
        case ["exit"]:
            raise SystemExit(3)
        case ["decode-error"]:
            raise DecodeError("no_invoice", "not one of ours")
        case ["expired"]:
            return Decoded(payload=1, expires_at=datetime(2020, 1, 1, tzinfo=UTC))
        case ["object"]:
            return object()
        case ["bad-field"]:
            return Decoded(payload=1, key="")
        case ["bad-time"]:
            return Decoded(payload=1, expires_at=datetime(2020, 1, 1))
        case ["sleep", seconds]:
            time.sleep(float(seconds))
            return seconds
        case _:
            return {"type": message.type, "headers": dict(message.headers)}


def echo(job: Job) -> Any:
    """A handler: the payload."""
    return job.payload


class Counting:
    """Made once."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, body: bytes, message: Any) -> int:
        self.count += 1
        return self.count


class NeedsMore:
    """Cannot be made."""

    def __init__(self, schema: str) -> None: ...

    def __call__(self, body: bytes, message: Any) -> None: ...


class NotCallable:
    """Has no `__call__`."""


async def late(body: bytes, message: Any) -> None:
    """Async."""


def yields(body: bytes, message: Any) -> Iterator[bytes]:
    """A generator."""
    yield body


def one_argument(body: bytes) -> bytes:
    """Takes no message."""
    return body
