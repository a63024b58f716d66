"""CPU-bound work on a whole batch: one matrix product instead of hundreds of small ones.

    rabbitray run --handler docs.examples.cpu_batch:nearest --max-size 8

A batch handler gets a list of jobs and returns a list with an item for each, in order. An exception in that list
is the outcome of its own job and of no other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbitray import Job, Reject, batch

DIMENSIONS = 64
CATALOGUE = np.random.default_rng(7).standard_normal((5_000, DIMENSIONS), dtype=np.float32)
CATALOGUE /= np.linalg.norm(CATALOGUE, axis=1, keepdims=True)


@batch
def nearest(jobs: list[Job]) -> list[dict[str, Any] | Exception]:
    """For each job's vector (64 numbers) the entry of the catalogue that points most nearly the same way."""
    vectors = [_vector(job) for job in jobs]
    usable = [vector for vector in vectors if not isinstance(vector, Reject)]
    found = iter(_look_up(np.stack(usable)) if usable else [])
    return [vector if isinstance(vector, Reject) else next(found) for vector in vectors]


def _look_up(vectors: np.ndarray) -> list[dict[str, Any]]:
    similarity = vectors @ CATALOGUE.T / np.linalg.norm(vectors, axis=1, keepdims=True)
    best = similarity.argmax(axis=1)
    return [{"entry": entry, "similarity": similarity[row, entry]} for row, entry in enumerate(best)]


def _vector(job: Job) -> np.ndarray | Reject:
    payload = job.payload if isinstance(job.payload, dict) else {}
    try:
        vector = np.asarray(payload.get("vector", []), dtype=np.float32)
    except (TypeError, ValueError):
        return Reject("vector: numbers only")
    if vector.shape != (DIMENSIONS,) or not np.any(vector):
        return Reject(f"vector: {DIMENSIONS} numbers, not all 0; got the shape {vector.shape}")
    return vector
