"""PublisherConfig: where a publisher sends to, and its bounds. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from rabbitray.actors.backoff import Backoff
from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.message.wire import MOST_RECORDS, REPORT_CODES, Form, TypeCodes
from rabbitray.actors.message.wire.limits import DEFAULT_LIMITS
from rabbitray.actors.rabbitmq.addresses import of
from rabbitray.actors.seconds import require_seconds
from rabbitray.actors.secret import Secret

_COUNTS = (
    "channels",
    "max_batch",
    "max_records",
    "max_outstanding",
    "max_outstanding_bytes",
    "window",
    "metrics_batch",
)
_DURATIONS = (
    "confirm_timeout_s",
    "heartbeat_s",
    "connect_timeout_s",
    "backoff_base_s",
    "backoff_max_s",
    "close_timeout_s",
    "metrics_interval_s",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherConfig:
    """Settings of one publisher. Raises ConfigurationError for values that cannot work.

    Seconds are numbers from 0 on; a timedelta is taken, too.

    - `url`: AMQP URL, or several of one broker's nodes, separated by blanks, which are tried in turn; a plain text is
      kept as a `Secret`, which is never shown.
    - `queue`, `exchange`, `routing_key`: where jobs go; by default to the queue through the default exchange.
    - `form`: `msgpack` (one-letter keys, a CRC-32), `compact_json` or `verbose_json` (the report's documents, 3.1).
    - `codes`: one-letter codes of message types; by default the report's. More of them:
      `rabbitray.actors.message.wire.REPORT_CODES.extended({"C": "CHRISTMAS"})`; the pool needs the same (`type_codes`).
    - `channels`: opened when it connects (`PUBLISHER_POOL_SIZE`).
    - `confirm_timeout_s`: seconds from the call to the confirm, waiting for room and sending again included.
    - `max_batch`: messages in one write, and jobs in a packed message.
    - `max_records`: most jobs in a packed message; 1,000 by default, as many as its readers take.
    - `max_outstanding`, `max_outstanding_bytes`: unconfirmed messages and their bodies; beyond, `publish` waits.
    - `window`: how many of them are on the wire at once (beyond about 1,000 the broker gets slower: measured).
    - `max_message_bytes`: the largest body; a larger one raises EncodeError.
    - `heartbeat_s`: AMQP heartbeat, 1 to 65,534 seconds.
    - `connect_timeout_s`: seconds for each attempt to connect; of several addresses each gets its share.
    - `backoff_base_s`, `backoff_max_s`: waits before reconnecting, doubled each time, with full jitter.
    - `close_timeout_s`: seconds that `close` waits for confirms.
    - `connection_name`: as RabbitMQ's management shows it.
    - `metrics_enabled`, `metrics_batch`, `metrics_interval_s`: events go to the sink so many together, or so many
      seconds after the first (report, 1.2).
    """

    url: Secret | str
    queue: str
    exchange: str = ""
    routing_key: str | None = None
    form: Form = "msgpack"
    codes: TypeCodes = REPORT_CODES
    channels: int = 3
    confirm_timeout_s: float = 5.0
    max_batch: int = 100
    max_outstanding: int = 10_000
    window: int = 1_000
    max_outstanding_bytes: int = 64 * 1024 * 1024
    max_message_bytes: int = 16 * 1024 * 1024
    max_records: int = DEFAULT_LIMITS.max_records
    heartbeat_s: int = 10
    connect_timeout_s: float = 10.0
    backoff_base_s: float = 0.1
    backoff_max_s: float = 5.0
    close_timeout_s: float = 5.0
    connection_name: str = "rabbitray-publisher"
    metrics_enabled: bool = True
    metrics_batch: int = 50
    metrics_interval_s: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", of(self.url))
        for name in _COUNTS:
            if not isinstance(count := getattr(self, name), int) or count < 1:
                raise ConfigurationError(f"publisher: {name} must be a whole number, 1 or more, not {count!r}")
        for name in _DURATIONS:
            object.__setattr__(self, name, _duration_s(name, getattr(self, name)))
        object.__setattr__(self, "heartbeat_s", int(self.heartbeat_s))  # AMQP knows whole ones
        if not self.confirm_timeout_s > 0 or not 1 <= self.heartbeat_s < 65535:
            raise ConfigurationError("publisher: confirm_timeout_s must be above 0, heartbeat_s from 1 to 65534")
        for name in ("queue", "exchange", "destination_key"):
            if len(getattr(self, name).encode()) > 255:
                raise ConfigurationError(f"publisher: {name} is longer than 255 bytes")
        if not self.destination_key:
            raise ConfigurationError("publisher: a queue or a routing key is needed")

    def close_within_s(self, timeout_s: float | None) -> float:
        """Seconds that a `close` waits: its own, or `close_timeout_s`. Raises ConfigurationError for no duration."""
        return self.close_timeout_s if timeout_s is None else _duration_s("close(timeout_s)", timeout_s)

    @property
    def secret_url(self) -> Secret:
        """The URL, always as a Secret."""
        return of(self.url)

    @property
    def destination_key(self) -> str:
        """The routing key that jobs are sent with."""
        return self.queue if self.routing_key is None else self.routing_key

    @property
    def backoff(self) -> Backoff:
        """The waits before reconnecting."""
        return Backoff(first_s=self.backoff_base_s, most_s=self.backoff_max_s, jitter=(0.0, 1.0))

    def packed_size(self, packed: bool | int) -> int:
        """How many jobs go into one message for `packed` as `publish_many` takes it; 0: each in one of its own.

        Raises ConfigurationError for a number above `max_records`.
        """
        most = min(self.max_records, MOST_RECORDS)
        if packed is True:
            return min(self.max_batch, most)
        if not 0 <= packed <= most:
            raise ConfigurationError(
                f"{packed} jobs in one message: readers take at most max_records = {most}; ask for fewer, or raise "
                f"max_records (RABBITRAY_MAX_RECORDS) here and in the pool"
            )
        return int(packed)


def _duration_s(name: str, value: object) -> float:
    try:
        found = require_seconds(value, f"publisher: {name}")
    except (TypeError, ValueError) as error:
        raise ConfigurationError(str(error)) from error
    if found < 0:
        raise ConfigurationError(f"publisher: {name} must be 0 s or more, not {found:g} s")
    return found
