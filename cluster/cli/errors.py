"""How a command ends that could not do its work: what is printed, and the exit code.

The one edge where errors become lines. Errors of ours say themselves what to do. Those of the libraries and of the
system that can come this far, and are nobody's mistake in this program, are one line too, with the next step. Whatever
else comes is a mistake of ours, and comes with its traceback.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from click.exceptions import Exit

from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.secret import Redactor
from rabbitray.cluster.cli.terminal import reader_gone, tell

OUTPUT_GONE: Final = 141
"""Exit code where nobody reads the output any more, as `| head` does it: what a shell gives for SIGPIPE."""

LIBRARIES: Final[Mapping[str, tuple[str, str]]] = {
    "aiormq": (
        "RabbitMQ",
        "check RABBITMQ_URL and the broker's log, then run it again; `rabbitray check` looks closer",
    ),
    "ray": ("Ray", "see `ray status`, then run it again; `rabbitray check` looks closer"),
    "duckdb": ("DuckDB", "`rabbitray check --results FILE` looks at the file and its disk"),
    "pyarrow": ("Arrow", "name another format or file, or ask for less"),
}
"""Top-level module of an exception's class -> what it is called, and the next step."""
_SAME: Final = {"aio_pika": "aiormq", "pamqp": "aiormq", "_duckdb": "duckdb"}

STEPS: Final[Mapping[int, str]] = {
    errno.ENOSPC: "make room on that disk, or name another place",
    errno.EDQUOT: "make room within your quota, or name another place",
    errno.EACCES: "check who may read and write it",
    errno.EPERM: "check who may read and write it",
    errno.EROFS: "name a place that can be written",
    errno.ENOENT: "check the name",
    errno.ENOTDIR: "check the name",
    errno.EISDIR: "name a file",
    errno.EEXIST: "name another one",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "close other programs: the system has no open files left",
    errno.ENOMEM: "free some memory",
    errno.EADDRINUSE: "end what listens there, or take another port",
}
"""What the system says -> the next step."""
_ANY_STEP: Final = "run it again; `rabbitray check` looks at all that a pool needs"


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


def tell_end(error: Exception, redact: Redactor) -> int:
    """Says on standard error why a command ends, whatever it is; returns the exit code. Never fails."""
    if isinstance(error, BrokenPipeError) and reader_gone():
        return OUTPUT_GONE
    try:
        return _tell(error, redact)
    except BrokenPipeError:  # standard error has nobody either who reads it
        return OUTPUT_GONE


def _tell(error: Exception, redact: Redactor) -> int:
    if isinstance(error, RabbitrayError):
        tell_error(error, redact)
        return error.exit_code
    line = foreseen(error, redact)
    if line is None:
        tell_fault(error, redact)
    else:
        tell(f"error: {line}", err=True)
    return 1


def foreseen(error: Exception, redact: Redactor) -> str | None:
    """One line for an error of the system or of a library, with the next step; None for what is our mistake."""
    library = next((name for kind in type(error).__mro__ if (name := _library(kind)) in LIBRARIES), None)
    if library is not None:
        name, step = LIBRARIES[library]
        return f"{name}: {_words(error, library, redact)}; {step}"
    if isinstance(error, MemoryError):
        return f"out of memory; {STEPS[errno.ENOMEM]}, or ask for less"
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"no answer in time; {_ANY_STEP}"
    if isinstance(error, OSError):
        place = "" if error.filename is None else f"{error.filename}: "
        said = error.strerror or str(error) or type(error).__name__
        return f"{redact(place + said)}; {STEPS.get(error.errno or 0, _ANY_STEP)}"
    if isinstance(error, UnicodeEncodeError):  # also of what stood on the command line
        return f"a text cannot be written as {error.encoding}; use a UTF-8 locale (LANG=C.UTF-8), or plain letters"
    if isinstance(error, ImportError | AttributeError) and (hiding := _hides_pythons_own()) is not None:
        return f"{hiding} hides a module of Python that has its name; rename it, or work in another folder"
    return None


def _hides_pythons_own() -> Path | None:
    """A file in the working directory that was imported in place of one of Python's own modules, e.g. `queue.py`."""
    here = Path.cwd()
    own = (sys.modules[name] for name in sys.stdlib_module_names if name in sys.modules)
    files = (Path(file) for module in own if (file := getattr(module, "__file__", None)) is not None)
    return next((file for file in files if file.parent in (here, here / file.parent.name)), None)


def _library(kind: type) -> str:
    name = kind.__module__.partition(".")[0]
    return _SAME.get(name, name)


def _words(error: Exception, library: str, redact: Redactor) -> str:
    """What it says, on one line. Of Ray's the last line: the others are a traceback of another process."""
    if library == "aiormq":
        from rabbitray.actors.rabbitmq.errors import describe  # it is loaded: an error of it has come

        return describe(error, redact)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return redact(lines[-1] if library == "ray" else lines[0])


@contextmanager
def errors_told(redact: Redactor) -> Iterator[None]:
    """Ends the program with what `tell_end` says of an error, and with its exit code.

    What nobody foresaw comes with its traceback and ends with 1, as Python would do it, but without secrets. Click's
    own exceptions pass through.
    """
    try:
        yield
    except (click.ClickException, click.Abort, Exit):
        raise
    except Exception as error:  # noqa: BLE001 # whatever it is, Python would print it as it is
        raise Exit(tell_end(error, redact)) from None
