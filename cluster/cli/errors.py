"""How a command ends that could not do its work: what is printed, and the exit code."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click
from click.exceptions import Exit

from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.secret import Redactor
from rabbitray.cluster.cli.terminal import tell


def tell_error(error: RabbitrayError, redact: Redactor) -> None:
    """An error of ours on standard error: one line, but one for each mistake in the settings.

    Whatever else has line breaks quotes somebody, who begins no line.
    """
    text = redact(str(error))
    lines = text.split("\n") if isinstance(error, ConfigurationError) else [text]
    tell(*(f"error: {line}" for line in lines), err=True)


def tell_fault(error: Exception, redact: Redactor) -> None:
    """What nobody foresaw on standard error, as Python tells it; all lines but the first are indented."""
    first, *rest = redact("".join(traceback.format_exception(error)).rstrip()).split("\n")
    tell(first, *(f"  {line}" for line in rest), err=True)


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
        tell_error(error, redact)
        raise Exit(error.exit_code) from None
    except Exception as error:  # noqa: BLE001 # whatever it is, Python would print it as it is
        tell_fault(error, redact)
        raise Exit(1) from None
