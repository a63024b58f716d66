"""IntakeConfig: how one queue is consumed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from rabbitray.actors.backoff import Backoff
from rabbitray.actors.message.keys import DEFAULT_RULE, KeyRule
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.rabbitmq.consumer_timeout import ConsumerTimeout
from rabbitray.actors.rabbitmq.reconnect import RECONNECT
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeConfig:
    """How to consume one queue. `single_after_s`: how long a finished tag waits behind an open one.

    `frame_max`: bytes of a frame that the broker is expected to agree on, 0 for any. `steady_s`: a connection that is
    lost earlier is opened again after a growing pause, see `Steadiness`; `pauses` are those. `timeout`: how long the
    broker leaves a message unsettled.
    """

    url: Secret
    topology: Topology
    limits: MessageLimits
    key: KeyRule = DEFAULT_RULE
    heartbeat_s: int = 10
    connect_timeout_s: float = 15.0
    frame_max: int = 0
    single_after_s: float = 0.2
    steady_s: float = 5.0
    pauses: Backoff = RECONNECT
    timeout: ConsumerTimeout = field(default_factory=ConsumerTimeout)
    name: str = "rabbitray"
    queue: str = ""  # the queue to consume, when it is not the topology's main queue

    @property
    def source(self) -> str:
        """The queue that is consumed."""
        return self.queue or self.topology.queue
