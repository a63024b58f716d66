"""The edge to people: what commands write to standard output and standard error, made printable."""

from __future__ import annotations

import io
import logging
import os
import select
import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stdout

import click
from rich.console import Console

from rabbitray.actors.printable import below, json_text, printable
from rabbitray.actors.secret import NO_SECRETS, Redactor

LINES_MOST = 20_000
"""Characters of one text, in one line or several: whoever wants more takes --json."""


def tell(*lines: str, err: bool = False) -> None:
    """Writes each of `lines` as one line, printable and bounded whatever stands in it; `err`: on standard error.

    A text of several lines of ours: give it split.
    """
    for line in lines:
        click.echo(printable(_cut(line)), err=err)


def tell_json(value: object) -> None:
    """Writes one JSON value on a line of its own, UTF-8 whatever the terminal's encoding is; never fails."""
    click.echo(json_text(value).encode())


def json_alone(as_json: bool) -> AbstractContextManager[object]:
    """While Ray runs in this process: what it prints of its own and of the workers goes to standard error, where
    standard output is to hold one JSON value."""
    return redirect_stdout(sys.stderr) if as_json else nullcontext()


def column(text: str, indent: int) -> list[str]:
    """The lines of a long text, cut to 20,000 characters; from the second on they begin with `indent` spaces.

    So none of them looks like a line of ours. Only a line feed begins a new one.
    """
    return _cut(text).replace("\r\n", "\n").replace("\n", "\n" + " " * indent).split("\n")


def _cut(text: str) -> str:
    return text if len(text) <= LINES_MOST else f"{text[:LINES_MOST]}... (cut; --json has all of it)"


class Terminal(Console):
    """One that ends as every other output does where nobody reads it any more."""

    def on_broken_pipe(self) -> None:
        """Rich would end the program here, with an exit code of its own."""
        raise BrokenPipeError


def console(pipe_width: int = 160) -> Console:
    """The terminal; where there is none, `pipe_width` columns, so that nothing is cut or folded."""
    found = Terminal()
    return found if found.is_terminal else Terminal(width=pipe_width)


def reader_gone() -> bool:
    """Whether the other end of standard output or standard error has been closed."""
    watch = select.poll()
    for number in (1, 2):
        watch.register(number, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in watch.poll(0))


def flushed() -> bool:
    """Writes what is left of the output; False where that fails: then nothing more is tried when Python ends."""
    whole = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            whole = False
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return whole


def prepare(redact: Redactor = NO_SECRETS) -> None:
    """Of a command's process: a character that its terminal's encoding lacks becomes an escape, no error; a record
    of a log that nobody set up becomes a line, without secrets. Once more, with `redact`, when they are known.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Bare(redact))


class _Bare(logging.Formatter):
    """A log record as its message alone, as Python shows it where no log was set up; printable, without secrets."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback under it."""
        text = printable(self._redact(record.getMessage()))
        return text + ("\n" + below(self._redact(self.formatException(record.exc_info))) if record.exc_info else "")
