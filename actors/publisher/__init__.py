"""PROCESS producer, also inside the router: sends jobs, and knows what became of each. Pulls in neither ray nor duckdb.

publisher      1. Publisher, for asynchronous code
sync           1. SyncPublisher, for synchronous code: a thread with a Publisher in it
message_maker  2. job -> message: encoded, stamped, with its trace
message        a message to send, and on its way
backpressure   3. bounds what is unconfirmed
pipeline       4. batches, deadlines, sends again after a loss
amqp           5. connection, channels, frames; hears the broker's confirms
large          one message whose body is not in memory, over a connection of its own
report         6. what became of each job
config         PublisherConfig
"""

from rabbitray.actors.publisher.config import PublisherConfig
from rabbitray.actors.publisher.message import EncodedMessage, Tracer
from rabbitray.actors.publisher.publisher import Publisher
from rabbitray.actors.publisher.report import (
    CloseReport,
    FailedJob,
    Meter,
    MeterSink,
    PublishBatch,
    PublishReport,
    PublishTotals,
)
from rabbitray.actors.publisher.sync import SyncPublisher

__all__ = [
    "CloseReport",
    "EncodedMessage",
    "FailedJob",
    "Meter",
    "MeterSink",
    "PublishBatch",
    "PublishReport",
    "PublishTotals",
    "Publisher",
    "PublisherConfig",
    "SyncPublisher",
    "Tracer",
]
