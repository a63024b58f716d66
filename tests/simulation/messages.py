"""What the messages of a history ask of their handler, and how their bodies are found again in copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import encode, join_records, split
from rabbitray.actors.message.wire.encode import encode_record

KILLS = ("die", "hang", "fat")
FAILS = ("raise", "retry", "call")
SHARED_ID = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One job. `do`: ok, slow (`value` s), raise (transient, `value` times), retry (asked for, `value` times), reject,
    call (a service `value`, which may be down), die, fat (out of memory), hang, unreadable."""

    serial: str
    do: str = "ok"
    value: float = 0.0
    shared: bool = False  # its message has the id of others


class Wishes:
    """All jobs of a history, by serial and by the bytes of their bodies."""

    def __init__(self) -> None:
        self.by_serial: dict[str, Wish] = {}
        self._by_body: dict[bytes, tuple[str, ...]] = {}

    def make(self, count: int, do: str, value: float, *, shared: bool) -> list[Wish]:
        """New jobs."""
        first = len(self.by_serial)
        made = [Wish(serial=f"s{first + n}", do=do, value=value, shared=shared) for n in range(count)]
        self.by_serial.update({wish.serial: wish for wish in made})
        return made

    def single(self, wish: Wish) -> tuple[bytes, str]:
        """Body and content type of one job."""
        body, kind = encode(Job(id=wish.serial))
        if wish.do == "unreadable":
            body = b"\xc1" + wish.serial.encode()
        self._by_body[body] = (wish.serial,)
        return body, kind

    def packed(self, wishes: Sequence[Wish]) -> tuple[bytes, str]:
        """Body and content type of many."""
        body = join_records([encode_record(Job(id=wish.serial)) for wish in wishes])
        for wish, piece in zip(wishes, split(body, None), strict=True):
            self._by_body[piece] = (wish.serial,)
        self._by_body[body] = tuple(wish.serial for wish in wishes)
        return body, h.PACKED

    def serials(self, body: bytes) -> tuple[str, ...]:
        """Whose body this is."""
        return self._by_body[body]


def attempt(headers: dict[str, Any]) -> int:  # Any: AMQP header values
    """Charged runs that a message's header tells."""
    return int(headers.get(h.ATTEMPT, 0))
