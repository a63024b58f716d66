"""GPUs and the user's code: hidden where it is only looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

HIDES_GPUS: Final = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": ""}
"""Variables by which CUDA and ROCm are told which devices there are, read when a process first uses one."""


@contextmanager
def gpus_hidden() -> Iterator[None]:
    """What is imported meanwhile finds no GPU: a module that touches one at its import makes no context of 300 MB and
    more in a process that never works a job. Before Ray is started, which counts GPUs by the same variables.
    """
    before = {name: os.environ.get(name) for name in HIDES_GPUS}
    os.environ.update(HIDES_GPUS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
