"""A class that holds a model on the GPU that Ray gave its worker, or on the CPU where there is none, and works batches.

    rabbitray run --handler docs.examples.gpu_embedding:Embed --worker-resources gpu=0.25

The GPU is reached through CuPy, which has NumPy's interface (`pip install cupy-cuda12x` on the GPU nodes, or in
`--worker-runtime-env`); nothing here is imported from it before a worker starts. A model of PyTorch is put onto its
device in `setup` in the same way, and bounded by `torch.cuda.set_per_process_memory_fraction(share)`.
"""

from __future__ import annotations

import logging
import zlib
from typing import Any, Final

import numpy as np
import ray

from rabbitray import Job, Reject, batch

log = logging.getLogger(__name__)

BUCKETS: Final = 4_096
WIDTH: Final = 64
TEXT_MOST: Final = 10_000  # characters

Arrays = Any  # the module numpy, or cupy, which has the same functions
Vectors = list[list[float] | Reject]


def gpu_share() -> float:
    """The GPUs that Ray gave this worker, 0.25 for a quarter; 0.0 without Ray, as in a test. Ray has set
    CUDA_VISIBLE_DEVICES, so that its device is the first one; that the variable is set says nothing, for a worker
    without GPUs sees all of them.
    """
    if not ray.is_initialized() or (context := ray.get_runtime_context()).get_actor_id() is None:
        return 0.0
    return context.get_assigned_resources().get("GPU", 0.0)


def arrays(share: float) -> Arrays:
    """CuPy with a bound on its memory, or NumPy. Ray reserves a share of a GPU and divides nothing: each worker keeps
    to its part by itself.
    """
    if not share:
        return np
    try:
        import cupy
    except ImportError:
        log.warning("This worker has %g GPUs and no CuPy: it works on the CPU", share)
        return np
    cupy.get_default_memory_pool().set_limit(fraction=min(1.0, 0.9 * share))
    return cupy


@batch
class Embed:
    """A vector of 64 numbers for each text; texts that share words and parts of words have similar ones."""

    def setup(self) -> None:
        """Loads the model; where the GPU has no room for it yet, the worker starts again a moment later."""
        self.arrays = arrays(gpu_share())
        drawn = np.random.default_rng(7).standard_normal((BUCKETS, WIDTH), dtype=np.float32)  # a real one is in a file
        self._table = self.arrays.asarray(drawn)

    def __call__(self, jobs: list[Job]) -> Vectors:
        """One call to the device for the whole batch; a job without a text is refused alone."""
        texts = [_text(job) for job in jobs]
        counts = np.zeros((len(texts), BUCKETS), dtype=np.float32)
        for row, text in enumerate(texts):
            np.add.at(counts[row], _trigrams(text or ""), 1.0)
        vectors = self._embedded(counts)
        return [
            Reject("text is missing") if text is None else vector
            for text, vector in zip(texts, vectors.tolist(), strict=True)
        ]

    def _embedded(self, counts: np.ndarray) -> np.ndarray:
        """Random projection of the counts, each row of length 1; on the device but for what goes in and comes out."""
        found = self.arrays.asarray(counts) @ self._table
        length = self.arrays.linalg.norm(found, axis=1, keepdims=True)
        found /= self.arrays.maximum(length, 1e-9)
        return found if self.arrays is np else self.arrays.asnumpy(found)


def _text(job: Job) -> str | None:
    text = job.payload.get("text") if isinstance(job.payload, dict) else None
    return text[:TEXT_MOST] if isinstance(text, str) and text.strip() else None


def _trigrams(text: str) -> list[int]:
    """The bucket of each three characters in a row, those of the ends included."""
    padded = f" {' '.join(text.lower().split())} "
    return [zlib.crc32(padded[at : at + 3].encode()) % BUCKETS for at in range(len(padded) - 2)]
