"""An elastic pool of Ray actors that works a RabbitMQ queue, and loses no message.

What producers and handlers need is here by name, loaded at its first use: none of it pulls in ray or duckdb.

Three floors, each of which uses only those below it, and what is offered by name:

cluster    the command line, the driver, what people look at
autoscale  how many workers, how wide a window
actors     what touches a message: publisher, router, workers, store
testing    runs a handler without a broker and without Ray
errors     what is raised
__main__   `python -m rabbitray`
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rabbitray import errors as errors
    from rabbitray import testing as testing
    from rabbitray.actors.errors import Reject, Retry, WorkerBroken
    from rabbitray.actors.message.formats.decoded import Decoded
    from rabbitray.actors.message.job import Job
    from rabbitray.actors.message.message import Message
    from rabbitray.actors.publisher import Publisher, PublisherConfig, SyncPublisher
    from rabbitray.actors.worker.handler.loading import batch

__all__ = [
    "Decoded",
    "Job",
    "Message",
    "Publisher",
    "PublisherConfig",
    "Reject",
    "Retry",
    "SyncPublisher",
    "WorkerBroken",
    "batch",
]

_HOMES = {
    "Decoded": "rabbitray.actors.message.formats.decoded",
    "Job": "rabbitray.actors.message.job",
    "Message": "rabbitray.actors.message.message",
    "Publisher": "rabbitray.actors.publisher",
    "PublisherConfig": "rabbitray.actors.publisher",
    "Reject": "rabbitray.actors.errors",
    "Retry": "rabbitray.actors.errors",
    "SyncPublisher": "rabbitray.actors.publisher",
    "WorkerBroken": "rabbitray.actors.errors",
    "batch": "rabbitray.actors.worker.handler.loading",
}


_MODULES = ("errors", "testing")


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"rabbitray.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'rabbitray' has no attribute {name!r}")
    return getattr(import_module(home), name)
