"""The queue writer: confirmed, pipelined, packed; pulls in neither ray nor duckdb.

The path of a message here: `Publisher` makes it (`message`), `Pipeline` bounds it (`budget`), batches it,
watches its deadline and sends it again after a loss, `Link` holds the connection and its channels,
`ConfirmChannel` writes it (`frames`) and hears the broker's answer.
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
