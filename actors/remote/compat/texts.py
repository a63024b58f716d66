"""The wording of Ray's errors (2.60): why an actor ended, in a few words, and who held memory. Pure.

Ray's texts hold one fact and a list of guesses. Where a later Ray says it in other words, its last line is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

GB: Final = 2**30  # as Ray's text has it
NO_EXIT_CODE: Final = "its process ended by a signal, a crash in C code or os._exit (Ray knows no exit code)"
_GUESSES: Final = " Some common causes include"
_NEVER_RAN: Final = "The actor never ran"

_FACTS: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]] = (
    (re.compile(r"exits with an exit code (-?\d{1,9})[^\n]{0,40}?SIGTERM"), lambda found: "ended by SIGTERM"),
    (re.compile(r"exits with an exit code (-?\d{1,9})"), lambda found: f"exit code {found[1]}"),
    (re.compile("exits unexpectedly by a signal"), lambda found: "ended by a signal"),
    (re.compile("unexpectedly exits with a connection error code"), lambda found: NO_EXIT_CODE),
    (re.compile("killed by `ray.kill`"), lambda found: "killed by ray.kill"),
    (
        re.compile(r"the actor's node was terminated(?: un| )?(?:expectedly)?: ([^\n]{1,200})"),
        lambda found: f"its node ended: {found[1].strip()}",
    ),
    (re.compile("its owner has died"), lambda found: "the process that started it has ended"),
)

_INSTALLER: Final = re.compile(r"(?:error|\S+Error)\b.*", re.IGNORECASE)
_GPU_MEMORY: Final = re.compile(
    r"CUDA(?: error:)? out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|HIP out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|OutOfMemoryError: Out of memory allocating"
    r"|RESOURCE_EXHAUSTED: (?:Out of memory|Failed to allocate)|cuda.{0,40}[Ff]ailed to allocate memory",
)
"""PyTorch, CUDA's driver and runtime, ROCm, cuBLAS and cuDNN, CuPy, JAX, ONNX Runtime."""

_ENDED: Final = re.compile(r"Selected to kill: .{0,1000}?pid=(\d+), actual memory used=([\d.]+)GB")
_NODE: Final = re.compile(r"Memory on the node \(.{0,1000}?\) was ([\d.]+)GB used / ([\d.]+)GB limit")


def death_cause(text: str) -> str | None:
    """The fact in what Ray says of an actor's death; None where this is no such text, or one in other words."""
    for pattern, fact in _FACTS:
        if (found := pattern.search(text)) is not None:
            return fact(found)
    return None


def without_guesses(lines: list[str]) -> str:
    """The line of a text of several lines that says what happened, without Ray's list of common causes."""
    told = [line for line in lines if not line.startswith(_NEVER_RAN)] or lines
    return told[-1].strip().partition(_GUESSES)[0]


def environment_failure(text: str) -> str:
    """What failed, out of what Ray says of a runtime_env that it could not build: the last line that an installer
    calls an error, else the last line.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if _INSTALLER.match(line)]
    return (errors or lines or ["no word of why"])[-1]


def gpu_memory_short(text: str) -> bool:
    """Whether an error is that of a library that found too little memory on a GPU."""
    return _GPU_MEMORY.search(text) is not None


def ended_for_memory(text: str) -> dict[int, int]:
    """The processes that Ray's memory monitor has ended, as process id -> bytes that it held."""
    return {int(number): round(float(gb) * GB) for number, gb in _ENDED.findall(text)}


def node_memory_gb(text: str) -> tuple[str, str]:
    """Used and usable memory of the node, in GB as Ray's text has it; ("?", "0") where it does not say."""
    found = _NODE.search(text)
    return (found[1], found[2]) if found is not None else ("?", "0")
