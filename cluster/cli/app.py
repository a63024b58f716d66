"""The command line: `rabbitray`, also `python -m rabbitray`.

Exit codes: 0 all well; 1 the command did its work and something failed (messages not confirmed, not drained in
time); 2 a mistake in settings, handler, broker, queue or results file, before anything was consumed; 3 no pool of
that name runs; 130 Ctrl-C; 141 nobody reads the output any more (`| head`).
"""

from __future__ import annotations

import importlib
import logging
import sys

import click
from click.exceptions import NoArgsIsHelpError

from rabbitray.actors.printable import printable
from rabbitray.actors.secret import NO_SECRETS
from rabbitray.cluster.cli.errors import OUTPUT_GONE, tell_end
from rabbitray.cluster.cli.terminal import flushed, prepare, reader_gone
from rabbitray.cluster.cli.version import version

COMMANDS = {
    "demo": "The main job on reference data, nothing to prepare.",
    "run": "Work a queue with your handler.",
    "submit": "Work a queue on a Ray cluster: `run` as a job, submitted from here.",
    "publish": "Publish jobs from a JSON-lines file, standard input or a generator.",
    "status": "What a running pool does now.",
    "top": "A live dashboard in the terminal.",
    "pause": "Stop consuming; survives a restart.",
    "resume": "End a pause.",
    "scale": "Fix the number of workers, or give it back to the autoscaler.",
    "drain": "Finish what is in flight, then end the pool.",
    "dlq": "The dead letters: list, show, replay, purge.",
    "query": "SQL over the results, also while the pool runs.",
    "trace": "One message's story: published, received, runs, worker, commit, dead letters.",
    "export": "Write the results as Parquet files.",
    "report": "One HTML page about what was worked, decided and refused.",
    "plan": "How many workers a load needs.",
    "replay": "The autoscaler over a recorded or imagined load, in virtual time.",
    "check": "A doctor for broker, queues, Ray, results file and disk.",
    "config": "Each setting, its value and where it came from.",
    "broker": "A private RabbitMQ node for development.",
}
"""Name -> one line of help; `cluster/commands/NAME` holds the command, imported only when it is asked for."""


class LazyGroup(click.Group):
    """Imports a command when it is used, so that help and errors come at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"rabbitray.cluster.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version(), prog_name="rabbitray")
def group() -> None:
    """An elastic pool of Ray actors that works a RabbitMQ queue.

    Start with `rabbitray demo`. Settings come from the command line, the environment and rabbitray.toml;
    `rabbitray config` shows them.
    """


def _show(error: click.ClickException) -> None:
    """How the command is used, and what was wrong; it quotes words of the command line, which may be a stranger's."""
    if not isinstance(error, NoArgsIsHelpError):  # that one is the help
        error = click.UsageError(printable(error.format_message()), getattr(error, "ctx", None))
    error.show()


def main(arguments: list[str] | None = None) -> None:
    """Runs one command; every error but our own mistakes is one line on standard error."""
    for library in ("aiormq", "aio_pika"):  # what they say reaches a log that was set up, not the terminal
        logging.getLogger(library).addHandler(logging.NullHandler())
    prepare()
    code = _run(arguments)
    sys.exit(code if flushed() else code or OUTPUT_GONE)


def _run(arguments: list[str] | None) -> int:
    """The exit code of one command."""
    try:
        code = group.main(arguments, prog_name="rabbitray", standalone_mode=False)
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except SystemExit:  # click ends the program so where it cannot write
        if not reader_gone():
            raise
        return OUTPUT_GONE
    except Exception as error:  # noqa: BLE001 # a fault of ours: as Python tells it, but printable and without passwords
        return tell_end(error, NO_SECRETS)
    return code if isinstance(code, int) else 0
