"""How a command ends that could not do its work: what is printed, and the exit code."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click
from click.exceptions import Exit

from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.secret import Redactor


def tell(error: RabbitrayError, redact: Redactor) -> None:
    """Each line of an error of ours on standard error."""
    for line in redact(str(error)).splitlines():
        click.echo(f"error: {line}", err=True)


@contextmanager
def errors_told(redact: Redactor) -> Iterator[None]:
    """Ends the program with each line of an error of ours on standard error, and with its exit code.

    What nobody foresaw comes with its traceback and ends with 1, as Python would do it, but without secrets. Click's
    own exceptions pass through.
    """
    try:
        yield
    except (click.ClickException, click.Abort, Exit):
        raise
    except RabbitrayError as error:
        tell(error, redact)
        raise Exit(error.exit_code) from None
    except Exception:  # noqa: BLE001 # whatever it is, Python would print it as it is
        click.echo(redact(traceback.format_exc()), err=True, nl=False)
        raise Exit(1) from None
