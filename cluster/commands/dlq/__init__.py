"""`rabbitray dlq`: the dead letters; a file for each of its commands.

ls, show  read the table dead_letters
replay    back into the main queue
purge     the dead-letter queue, emptied
options   what all of them have
"""

from __future__ import annotations

import click

from rabbitray.cluster.commands.dlq import ls, purge, replay, show


@click.group("dlq")
def command() -> None:
    """The dead letters: messages that were given up, with what went wrong.

    `ls` and `show` read the table dead_letters of the results; only `replay` and `purge` touch the queue.
    """


for one in (ls, show, replay, purge):
    command.add_command(one.command)
