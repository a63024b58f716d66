"""Why an actor ended, out of the texts that Ray 2.60 gave when it was tried: a few words, and no guesses."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError, RayActorError

from rabbitray.actors.remote.calls import last_line
from rabbitray.actors.remote.compat.texts import NO_EXIT_CODE, death_cause, environment_failure, gpu_memory_short

HEAD = """The actor died unexpectedly before finishing this task.
\tclass_name: PoolWorker
\tactor_id: d10552fd0a9184b98a082f3801000000
\tpid: 25002
\tname: shop-worker-0001
\tnamespace: rabbitray
\tip: 192.0.2.2
"""
DEAD = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
GUESSES = (
    " Some common causes include: (1) the process was killed by the OOM killer due to high memory usage, (2) ray stop "
    "--force was called, or (3) the worker crashed unexpectedly due to SIGSEGV or another unexpected error. If the "
    "process was killed by the kernel OOM killer (verifiable by checking for OOM in dmesg of the OOMing node), "
    "consider enabling resource isolation via --enable-resource-isolation to prevent node deaths by resource "
    "contention and significant loss of progress by uninformed kernel OOM killing."
)
CUT_OFF = f"{HEAD}{DEAD}Worker unexpectedly exits with a connection error code 2. End of file.{GUESSES}"
NEVER_RAN = "\nThe actor never ran - it was cancelled before it started running."
SAID = [
    (CUT_OFF, NO_EXIT_CODE),
    (CUT_OFF + NEVER_RAN, NO_EXIT_CODE),
    (f"{HEAD}{DEAD}Worker exits unexpectedly. Worker exits with an exit code 3.", "exit code 3"),
    (
        f"{HEAD}{DEAD}Worker exits unexpectedly. Worker exits with an exit code 1. The process receives a SIGTERM.",
        "ended by SIGTERM",
    ),
    (f"{HEAD}{DEAD}Worker exits unexpectedly by a signal. ", "ended by a signal"),
    (f"{HEAD}The actor is dead because it was killed by `ray.kill`.{NEVER_RAN}", "killed by ray.kill"),
    (
        "The actor died because its node has died. Node Id: 4a5f\n"
        "\tthe actor's node was terminated unexpectedly: health check failed due to missing too many heartbeats",
        "its node ended: health check failed due to missing too many heartbeats",
    ),
    (f"{HEAD}The actor is dead because its owner has died. Owner Id: 01", "the process that started it has ended"),
]


@pytest.mark.parametrize(("text", "told"), SAID, ids=[f"{n} {told[:30]}" for n, (_, told) in enumerate(SAID)])
def test_the_fact_is_told_in_a_few_words(text: str, told: str) -> None:
    assert death_cause(text) == told
    assert last_line(Said(text)) == told
    assert len(told) < 100


class Said(ActorDiedError):
    """Ray's class, with a text of the test."""

    def __init__(self, text: str) -> None:
        RayActorError.__init__(self)
        self.text = text

    def __str__(self) -> str:
        return self.text


def test_in_other_words_the_last_line_is_told_without_the_guesses() -> None:
    assert death_cause(f"{HEAD}The actor is gone.") is None
    assert last_line(Said(f"{HEAD}The actor is gone. It was old.{GUESSES}{NEVER_RAN}")) == (
        "The actor is gone. It was old."
    )


def test_the_error_of_a_start_stays_what_the_user_wrote() -> None:
    class Broken(Said):
        actor_init_failed = True

    text = "ray::PoolWorker.__init__()\nRabbitrayError: the child exits with an exit code 3, see its log"
    assert last_line(Broken(text)) == "RabbitrayError: the child exits with an exit code 3, see its log"


@pytest.mark.parametrize(
    "line",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139 GiB",
        "RuntimeError: CUDA error: out of memory",
        "cupy.cuda.memory.OutOfMemoryError: Out of memory allocating 1,073,741,824 bytes (allocated so far: 0 bytes).",
        "cupy_backends.cuda.api.runtime.CUDARuntimeError: cudaErrorMemoryAllocation: out of memory",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8589934592",
        "torch.cuda.OutOfMemoryError: HIP out of memory. Tried to allocate 20.00 MiB",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_a_gpu_without_memory_is_told_from_the_words_of_its_library(line: str) -> None:
    assert gpu_memory_short(f"{HEAD}Traceback (most recent call last):\n{line}")


@pytest.mark.parametrize("line", ["MemoryError", "OutOfMemoryError: Task was killed", "KeyError: 'cuda'", ""])
def test_other_memory_is_no_gpus(line: str) -> None:
    assert not gpu_memory_short(line)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Failed to set up runtime environment.\nERROR: No matching distribution found for nope\n\nhint: x\n",
         "ERROR: No matching distribution found for nope"),
        ("Failed to set up runtime environment.\nthe agent is away", "the agent is away"),
        ("", "no word of why"),
    ],
)  # fmt: skip
def test_what_failed_of_an_environment_is_one_line(text: str, says: str) -> None:
    assert environment_failure(text) == says
