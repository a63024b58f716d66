"""What touches a message, in the order in which it passes.

publisher   the queue writer: confirmed, pipelined, packed
wire        bytes <-> Job: msgpack, compact JSON, verbose JSON, packed records
job         Job, its identity, its fields
topology    names and arguments of queues, exchanges, retry rungs, dead letters
intake      RabbitMQ in: consume, window hand-over, acks
router      the spine: receive -> dispatch -> record -> settle
pool        workers: pick, add, retire, replace, quarantine
worker      runs the handler over a batch, one outcome for each job
handlers    the user's code: load `module:attr`, sync / async / batch / class
verdict     Outcome -> Settlement; which errors are transient, which permanent
store       results: one writer, group commit, exact dedupe, live queries
tracing     spans, links, the carrier in message headers
errors      the error family
remote      the plain classes as Ray actors

What producers and handlers need is here by name, loaded on first use: `from actors import Job, Publisher`.
None of it pulls in ray or duckdb.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.errors import Reject, Retry
    from actors.job import Job
    from actors.publisher import Publisher, PublisherConfig, SyncPublisher

__all__ = ["Job", "Publisher", "PublisherConfig", "Reject", "Retry", "SyncPublisher"]

_HOMES = {
    "Job": "actors.job",
    "Publisher": "actors.publisher",
    "PublisherConfig": "actors.publisher",
    "Reject": "actors.errors",
    "Retry": "actors.errors",
    "SyncPublisher": "actors.publisher",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'actors' has no attribute {name!r}")
    return getattr(import_module(home), name)
