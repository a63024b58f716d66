"""An exception in words: its class and text, with the first members of a group and what it was raised from. Pure."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Iterator
from itertools import islice
from typing import Final

from rabbitray.actors.errors import ERROR_TEXT_MOST, text_of
from rabbitray.actors.secret import NO_SECRETS, Redactor

NESTED_MOST: Final = 16
"""Groups in groups, and causes of causes, that are looked into."""

_NAMED_MOST: Final = 3
_NAMED_CHARS: Final = 300
_TRACEBACKS: Final = ("_RemoteTraceback", "RemoteTraceback")  # what process pools give as a cause: a text, no error


def describe(error: BaseException, redact: Redactor = NO_SECRETS) -> tuple[str, str]:
    """(class name, text) of an exception: bounded in length, encodable as UTF-8, and without secrets, since it is kept
    in rows and headers and shown in many places.
    """
    name = class_name(error)
    text = redact.cut(text_of(error) + _named_below(error, redact), ERROR_TEXT_MOST) or name
    return name, text.encode("utf-8", "replace").decode()


def class_name(error: BaseException) -> str:
    """The class with its module, which builtins do without."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def cause_of(error: BaseException) -> BaseException | None:
    """What an exception was raised `from`; None for the cancellation by which a time-out works, and for no error."""
    cause = error.__cause__
    if isinstance(cause, CancelledError) or type(cause).__name__ in _TRACEBACKS:
        return None
    return cause


def _named_below(error: BaseException, redact: Redactor) -> str:
    try:
        below = list(islice(_below(error, NESTED_MOST), _NAMED_MOST + 1))
    except BaseException as broken:  # noqa: BLE001 # the user's code, as in `text_of`
        return f" (what is in it cannot be read: {type(broken).__name__})"
    if not below:
        return ""
    named = [_named(one, redact) for one in below[:_NAMED_MOST]] + ["..."] * (len(below) > _NAMED_MOST)
    return f"{': ' if isinstance(error, BaseExceptionGroup) else '; caused by '}{'; '.join(named)}"


def _below(error: BaseException, depth: int) -> Iterator[BaseException]:
    """The members of a group, also of one inside it, in order; else what an exception was raised from."""
    if not depth:
        return
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _below(member, depth - 1) if isinstance(member, BaseExceptionGroup) else (member,)
    elif (cause := cause_of(error)) is not None:
        yield from _below(cause, depth - 1) if isinstance(cause, BaseExceptionGroup) else (cause,)


def _named(error: BaseException, redact: Redactor) -> str:
    """Cut once its secrets are hidden: nobody would know the half of one."""
    text = " ".join(redact.cut(text_of(error), _NAMED_CHARS).split())
    return f"{class_name(error)}: {text}" if text else class_name(error)
