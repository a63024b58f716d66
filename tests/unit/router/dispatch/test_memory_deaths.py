"""What Ray says when its memory monitor ends workers: the text is Ray 2.60's."""

from __future__ import annotations

import pytest

from rabbitray.actors.remote.compat.texts import GB
from rabbitray.actors.router.dispatch.memory_deaths import memory_death

TEXT = """\
2 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: 896d) was 2.39GB \
used / 23.54GB limit (0.101549)
OOM kill reason: Memory usage 2560368640B exceeded threshold of 2547827200B (10.1% of 25276063744B limit)
Object store memory usage: [- objects spillable: 0
(global lru) bytes evicted: 0]
Ray killed 2 worker(s) based on the killing policy
Considered workers: [
Selected to kill: (Actor(dd32): job ID=01000000, lease ID=0100, task name=A.__init__, required resources={CPU: 1}, \
pid=25197, actual memory used=0.76GB, worker ID=5798)
Selected to kill: (Actor(9a97): job ID=01000000, lease ID=0000, task name=A.__init__, required resources={CPU: 1}, \
pid=25198, actual memory used=0.80GB, worker ID=899a)
]
Total non-selected idle workers: 0
Top 10 memory users: PID	MEM(GB)	COMMAND
25198	0.80	ray::A.eat
25336	0.25	python
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io"""
SMALL = GB // 10


def test_the_largest_that_has_grown_is_suspect_and_what_it_held_is_told() -> None:
    loss = memory_death(TEXT, 25198, at_start=SMALL, last=2 * SMALL)
    assert (loss.may_be_poison, loss.merely_chosen, loss.node_in_doubt) == (True, False, False)
    assert str(loss) == (
        "out_of_memory: needs more than 0.80 GB, which its worker held when Ray ended it to free memory"
        " (its node used 2.39 of 23.54 GB)"
    )


@pytest.mark.parametrize(
    ("pid", "at_start"),
    [
        (25197, SMALL),  # a larger one was ended beside it
        (25198, 7 * SMALL),  # as large as at its start, by a model for example
    ],
)
def test_a_worker_that_cannot_have_filled_its_node_was_merely_chosen(pid: int, at_start: int) -> None:
    loss = memory_death(TEXT, pid, at_start=at_start, last=0)
    assert (loss.may_be_poison, loss.merely_chosen) == (True, True)


def test_where_ray_does_not_name_the_worker_its_own_last_word_counts() -> None:
    loss = memory_death(TEXT.replace("pid=", "process "), 25198, at_start=SMALL, last=30 * SMALL)
    assert not loss.merely_chosen
    assert "needs more than 3.00 GB" in str(loss)


def test_a_text_that_says_nothing_leaves_the_death_to_count() -> None:
    loss = memory_death("the node is out of memory", 25198, at_start=SMALL, last=SMALL)
    assert (loss.may_be_poison, loss.merely_chosen) == (True, False)
    assert "needs more than 0.10 GB" in str(loss)
