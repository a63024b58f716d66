"""The queue writer: confirmed, pipelined, packed; pulls in neither ray nor duckdb.

The path of a message here: `Publisher` makes it (`message`), `Pipeline` bounds it (`budget`), batches it,
watches its deadline and sends it again after a loss, `Link` holds the connection and its channels,
`ConfirmChannel` writes it (`frames`) and hears the broker's answer.
"""

from actors.publisher.config import PublisherConfig
from actors.publisher.message import Message, Tracer
from actors.publisher.meter import Meter, MeterSink, PublishBatch, PublishTotals
from actors.publisher.report import CloseReport, FailedJob, PublishReport
from actors.publisher.sync import SyncPublisher
from actors.publisher.writer import Publisher

__all__ = [
    "CloseReport",
    "FailedJob",
    "Message",
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
