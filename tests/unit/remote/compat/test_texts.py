"""Why an actor ended, out of the texts that Ray 2.60 gave when it was tried: a few words, and no guesses."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError, RayActorError

from rabbitray.actors.remote.calls import last_line
from rabbitray.actors.remote.compat.texts import NO_EXIT_CODE, death_cause

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
