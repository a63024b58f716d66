"""What each version of RabbitMQ does otherwise: the one place where versions are told apart. Pure.

A version is asked for what it does (`behaviour((4, 3, 6)).nack_counts`), never compared elsewhere. What stands in the
table was tried on each version that can be had (tests/broker/test_versions.py), the rest is read in release notes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Literal

Version = tuple[int, ...]

RABBITMQ: Final = "RabbitMQ"
OLDEST: Final[Version] = (3, 10)
"""What is older was never tried."""
MIB: Final = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What a broker does, as far as versions differ. The defaults are those of 3.10."""

    delivery_limit: int | None = None
    """Returns after which a quorum queue drops or dead-letters, where neither argument nor policy says; None: never."""

    unlimited: int | None = None
    """The `x-delivery-limit` that means "no limit"; None where none does (3.10 takes -1 for one that the first return
    exceeds)."""

    nack_counts: bool = True
    """Whether a nack with requeue counts towards the limit. A reject and a lost channel always do."""

    unlimited_returns_last: bool = True
    """Whether a quorum queue without a limit puts what is nacked behind all that waits; else it comes first. Tried on
    3.10.8, 4.0.5 and 4.3.6, between which it changed."""

    timeout_ends: Literal["channel", "consumer"] = "channel"
    """What `consumer_timeout` closes: the channel with all that it holds, or that consumer only."""

    timeout_on_classic: bool = True
    """Whether `consumer_timeout` holds for classic queues, too."""

    timeout_of_queue: bool = False
    """Whether a queue may have a time of its own (`x-consumer-timeout`, policy `consumer-timeout`)."""

    timeout_of_consumer: bool = False
    """Whether a consumer may (`x-consumer-timeout` among the arguments of basic.consume)."""

    quorum_priorities: int = 1
    """Levels of priority in a quorum queue; 1: none."""

    look_needs_right: bool = False
    """Whether a passive declare needs a right on that queue or exchange (403 else)."""

    mirrored_classic: bool = True
    """Whether a policy can mirror a classic queue; where not, it lives on one node."""

    reads_x_death: bool = True
    """Whether RabbitMQ believes an `x-death` header that a client wrote."""

    default_type_told: bool = False
    """Whether a queue that was declared without a type has `x-queue-type=classic` among its arguments."""

    max_message_bytes: int = 128 * MIB
    """`max_message_size`, unless it is configured."""

    keeps_disconnected_s: float = 0.0
    """How long at most a quorum queue keeps what a consumer had whose node is away (`consumer_disconnected_timeout`)
    before it delivers that again: seen on 4.3.6, where two messages of a killed node came after 60.4 s."""

    delayed_retry: bool = False
    """Whether a quorum queue can hold back what was returned (`x-delayed-retry-type`)."""


_TABLE: Final[tuple[tuple[Version, Mapping[str, Any]], ...]] = (  # Any: values of Behaviour's fields
    (OLDEST, {}),
    ((3, 12), {"timeout_of_queue": True}),
    (
        (4,),
        {
            "delivery_limit": 20,
            "unlimited": -1,
            "quorum_priorities": 2,
            "mirrored_classic": False,
            "reads_x_death": False,
            "default_type_told": True,
            "max_message_bytes": 16 * MIB,
        },
    ),
    ((4, 2, 6), {"look_needs_right": True}),
    (
        (4, 3),
        {
            "look_needs_right": False,  # 4.3.0 is older than 4.2.6
            "nack_counts": False,
            "unlimited_returns_last": False,
            "timeout_ends": "consumer",
            "timeout_on_classic": False,
            "timeout_of_consumer": True,
            "quorum_priorities": 32,
            "delayed_retry": True,
            "keeps_disconnected_s": 70.0,  # by default 60
        },
    ),
    ((4, 3, 1), {"look_needs_right": True}),
)
"""From which version on what is otherwise: a line changes what those above it say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What a broker says that it is. `version` is empty for another product, and where it does not say."""

    product: str = ""
    text: str = ""
    version: Version = ()

    @property
    def behaviour(self) -> Behaviour:
        """What it does."""
        return behaviour(self.version)

    @property
    def note(self) -> str | None:
        """One line for a broker of which nobody knows whether the promises hold; None for RabbitMQ from 3.10 on."""
        if self.version >= OLDEST:
            return None
        oldest, said = ".".join(map(str, OLDEST)), str(self) or "of a kind that it does not tell"
        return f"the broker is {said}: only RabbitMQ from {oldest} on was ever tried"

    def __str__(self) -> str:
        return f"{self.product} {self.text}".strip()


@lru_cache(maxsize=16)
def behaviour(version: Version) -> Behaviour:
    """What a version does: one newer than the table as its last line, an older or unknown one as 3.10."""
    found = Behaviour()
    for since, changes in _TABLE:
        if version >= since:
            found = replace(found, **changes)
    return found


def read_server(properties: Mapping[str, object]) -> Server:
    """The server's properties of an AMQP connection, whatever is in them."""
    product, text = (_text(properties.get(name, "")) for name in ("product", "version"))
    return Server(product=product, text=text, version=parse_version(text) if product == RABBITMQ else ())


def parse_version(text: str) -> Version:
    """The numbers that a version begins with: (4, 1, 0) of `4.1.0-rc.1`."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _text(value: object) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)
