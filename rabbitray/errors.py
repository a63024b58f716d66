"""What producers, handlers and commands raise. Each message is one line: what is wrong, where, and what to do.

A command ends with the `exit_code` of the error that it meets: 2 for every ConfigurationError, 1 for the others here.
"""

from rabbitray.actors.errors import (
    BrokerUnreachableError,
    ConfigurationError,
    DecodeError,
    EncodeError,
    HandlerLoadError,
    PublisherClosedError,
    PublisherFullError,
    PublishFailedError,
    PublishTimeoutError,
    QueryError,
    RabbitrayError,
    RefusedError,
    Reject,
    Retry,
    StoreOpenError,
    StoreUnavailableError,
    TopologyError,
    UncertainError,
    UnroutableError,
    WorkerBroken,
)

__all__ = [
    "BrokerUnreachableError",
    "ConfigurationError",
    "DecodeError",
    "EncodeError",
    "HandlerLoadError",
    "PublishFailedError",
    "PublishTimeoutError",
    "PublisherClosedError",
    "PublisherFullError",
    "QueryError",
    "RabbitrayError",
    "RefusedError",
    "Reject",
    "Retry",
    "StoreOpenError",
    "StoreUnavailableError",
    "TopologyError",
    "UncertainError",
    "UnroutableError",
    "WorkerBroken",
]
