"""The formats by name, as the setting `decoder` has them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rabbitray.actors.message.formats import cbor, celery, cloudevents, dramatiq, plain
from rabbitray.actors.message.formats.auto import Read

AUTO: Final = "auto"
"""No decoder: each message is read by its content type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How one format is read. `asks_message`: from the properties of the message, too, not its body alone.

    `unwraps`: what an AMQP 1.0 client encoded as a value is taken out first. `needs`: raises ConfigurationError, one
    line, where what it needs is not installed.
    """

    read: Read
    asks_message: bool = False
    unwraps: bool = True
    needs: Callable[[], None] = lambda: None


FORMATS: Final[dict[str, Format]] = {
    "json": Format(read=plain.read_json),
    "msgpack": Format(read=plain.read_msgpack),
    "cbor": Format(read=cbor.read_cbor, needs=cbor.require_installed),
    "text": Format(read=plain.read_text),
    "bytes": Format(read=plain.read_bytes, unwraps=False),
    "celery": Format(read=celery.read_task, asks_message=True),
    "dramatiq": Format(read=dramatiq.read_message),
    "cloudevents": Format(read=cloudevents.read_event, asks_message=True),
}


def find_format(name: str) -> Format | None:
    """The format of that name; None for `auto`. Raises ConfigurationError, one line, where it cannot work here."""
    found = FORMATS.get(name)
    if found is not None:
        found.needs()
    return found
