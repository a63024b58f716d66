"""Tracebacks: where in the user's code a job failed or stands, as a short text that holds no values.

Kept of a failed job are file, line, function and source line of its last frames, those of the error that began it all
first. Not kept are our own frames above the call, local variables, and the texts of other errors in the chain.
"""

from __future__ import annotations

import linecache
import logging
import os
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Final

from rabbitray.actors.printable import printable
from rabbitray.actors.secret import NO_SECRETS, Redactor
from rabbitray.actors.worker.batch.unit import NO_TRACE, Trace
from rabbitray.actors.worker.outcome.error_text import class_name

log = logging.getLogger(__name__)

FRAMES_MOST: Final = 8
"""Frames of one text: of a longer stack the first and the last ones."""
TEXT_MOST: Final = 2_048
PLACE_MOST: Final = 200
_LINE_MOST: Final = 160
_NAME_MOST: Final = 100
_ERRORS_MOST: Final = 8
"""Of a chain of errors."""
_WALKED_MOST: Final = 2_000
_PLACES_MOST: Final = 256
_LINES_MOST: Final = 2_048
_FILE_MOST: Final = 4 * 1024 * 1024

_OURS: Final = f"{Path(__file__).parents[1]}{os.sep}"
"""The worker's folder, whose files stand above a call: the handler's room and the guards."""
_INSTALLED: Final = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))

Frame = tuple[str, str, int]
"""File as Python knows it, function, line."""

Section = tuple[str, int, tuple[Frame, ...]]
"""One error of a chain: its class, how many frames are left out after the first, and the others."""


class Tracebacks:
    """Makes traces. One that was made before costs some microseconds, a new one reads source lines from their files.

    What is kept for that is bounded: 256 texts and 2,048 source lines.
    """

    def __init__(self, redact: Redactor = NO_SECRETS) -> None:
        self._redact = redact
        self._made: dict[tuple[Section, ...], Trace] = {}
        self._lines: dict[tuple[str, int], str] = {}
        self._libraries = [path + os.sep for name, path in sysconfig.get_paths().items() if name.endswith("lib")]

    def of(self, error: BaseException) -> Trace:
        """Of an error as it was caught. Never fails."""
        try:
            return self._trace(tuple(_section(one) for one in _chain(error)))
        except BaseException:  # the user's classes: not even SystemExit may end the worker here
            log.exception("The traceback of a %s cannot be read", type(error).__qualname__)
            return NO_TRACE

    def of_thread(self, ident: int | None) -> str:
        """Where a thread stands in the user's code now; "" where it does not."""
        frame = sys._current_frames().get(ident) if ident is not None else None
        return self._trace((("", *_clipped(_of_stack(frame))),)).text if frame is not None else ""

    def _trace(self, sections: tuple[Section, ...]) -> Trace:
        """`sections`: of a chain, the error that was caught first."""
        found = self._made.get(sections)
        if found is None:
            if len(self._made) >= _PLACES_MOST:
                self._made.clear()
            found = self._made[sections] = Trace(self._text(sections), self._place(sections))
        return found

    def _text(self, sections: Sequence[Section]) -> str:
        """The error that began it first, then what it led to, for as long as there is room for frames."""
        lines: list[str] = []
        left = FRAMES_MOST
        for number in range(len(sections) - 1, -1, -1):
            name, skipped, frames = sections[number]
            if not frames:
                continue
            if lines:
                lines.append(f"and then {name}, at")
            elif number:
                lines.append(f"{name}, at")
            lines += self._shown(skipped, frames) if len(frames) <= left else self._shown(0, frames[-left:])
            left -= len(frames)
            if left <= 0:
                break
        text = self._redact.cut("\n".join(lines), TEXT_MOST)
        return "\n".join(map(printable, text.split("\n"))).encode("utf-8", "replace").decode()[:TEXT_MOST]

    def _shown(self, skipped: int, frames: Sequence[Frame]) -> Iterable[str]:
        for number, (file, function, line) in enumerate(frames):
            if number == 1 and skipped:
                yield f"... {skipped} more"
            source = self._source(file, line)
            yield f"{_file(file)}:{line} in {function[:_NAME_MOST]}" + (f": {source}" if source else "")

    def _place(self, sections: Sequence[Section]) -> str:
        """Of the error nearest to the begin of the chain that passed through the user's own code."""
        own = next((_package(section[2][0][0]) for section in sections if section[2]), "")
        for _, _, frames in reversed(sections):
            for file, _, line in reversed(frames):
                if not self._is_library(file) or (own and _package(file) == own):
                    return self._redact.cut(f"{printable(_file(file))}:{line}", PLACE_MOST)
        file, _, line = next((frames[-1] for _, _, frames in reversed(sections) if frames), ("", "", 0))
        return self._redact.cut(f"{printable(_file(file))}:{line}", PLACE_MOST) if file else ""

    def _is_library(self, file: str) -> bool:
        return file.startswith(("<", *self._libraries)) or any(part in file for part in _INSTALLED)

    def _source(self, file: str, line: int) -> str:
        """A line of a source file, without the others in memory; "" where it is not at hand, or too many were read."""
        known = self._lines.get((file, line))
        if known is None and len(self._lines) < _LINES_MOST:
            known = self._lines[file, line] = _read(file, line)
        return known or ""


def _section(error: BaseException) -> Section:
    return (class_name(error)[:_NAME_MOST], *_clipped(_of_traceback(error.__traceback__)))


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what it came from, step by step: a cause, a context, the first member of a group."""
    chain = [error]
    while len(chain) < _ERRORS_MOST:
        cause = _cause(chain[-1])
        if cause is None or any(cause is one for one in chain):
            break
        chain.append(cause)
    return chain


def _cause(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    return error.__cause__ if error.__suppress_context__ else error.__cause__ or error.__context__


def _of_traceback(traceback: TracebackType | None) -> list[Frame]:
    frames: list[Frame] = []
    while traceback is not None and len(frames) < _WALKED_MOST:
        frames.append(_frame(traceback.tb_frame.f_code, traceback.tb_lineno))
        traceback = traceback.tb_next
    return frames


def _of_stack(frame: FrameType | None) -> list[Frame]:
    frames: list[Frame] = []
    while frame is not None and len(frames) < _WALKED_MOST:
        frames.append(_frame(frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return frames[::-1]


def _frame(code: CodeType, line: int | None) -> Frame:
    return code.co_filename, code.co_qualname, line or 0


def _clipped(frames: list[Frame]) -> tuple[int, tuple[Frame, ...]]:
    """Those of the user's call: the first and the last ones, and how many are left out between them.

    Ours stand above the call, and between its frames where a coroutine was woken with an error.
    """
    called = next((number for number, (file, _, _) in enumerate(frames) if file.startswith(_OURS)), 0)
    users = [frame for frame in frames[called:] if not frame[0].startswith(_OURS)]
    if len(users) <= FRAMES_MOST:
        return 0, tuple(users)
    return len(users) - FRAMES_MOST, (users[0], *users[1 - FRAMES_MOST :])


def _file(file: str) -> str:
    """A path as an import would name it: relative to where Python found it."""
    roots = [os.path.abspath(root) + os.sep for root in sys.path if root.startswith(os.sep) or not root]
    root = max((root for root in (*roots, os.getcwd() + os.sep) if file.startswith(root)), key=len, default="")
    return file[len(root) :][-_NAME_MOST:]


def _package(file: str) -> str:
    """The installed package of a file; "" for one that is not installed."""
    found = next((part for part in _INSTALLED if part in file), "")
    return file.rpartition(found)[2].split(os.sep)[0] if found else ""


def _read(file: str, line: int) -> str:
    known = file in linecache.cache
    try:
        if not known and (not os.path.isfile(file) or os.path.getsize(file) > _FILE_MOST):
            return ""
        return linecache.getline(file, line).strip()[:_LINE_MOST]
    finally:
        if not known:
            linecache.cache.pop(file, None)
