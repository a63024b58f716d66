"""The plain classes as Ray actors; the only place in `actors` that imports ray.

Actor classes are named as they are shown in the Ray dashboard: ConsumerRouter, PoolWorker, ResultStore.
"""

from actors.remote.boot import Actor, Boot, Flush, ray_attributes
from actors.remote.router import ConsumerRouter, RouterSetup
from actors.remote.store import ResultStore, StoreClient
from actors.remote.worker import PoolWorker, WorkerSetup

__all__ = [
    "Actor",
    "Boot",
    "ConsumerRouter",
    "Flush",
    "PoolWorker",
    "ResultStore",
    "RouterSetup",
    "StoreClient",
    "WorkerSetup",
    "ray_attributes",
]
