"""Secret: a text that does not show itself, and `redact` for text that may hold one. Pure."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "***"

_CREDENTIALS: Final = re.compile(r"""(?<=://)(?:[^\s/:@"']*:[^\s"'<>]*|[^\s/:@"']*)@""")


class Secret:
    """A text whose `repr`, `str` and format show `***`; only `reveal()` gives it out.

    Pickling carries the text itself, since another process has to connect with it: pickle it into a channel
    that you trust, never into a log.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | Secret) -> None:
        self._value: str = value.reveal() if isinstance(value, Secret) else value

    def reveal(self) -> str:
        """Return the text itself; the caller keeps it out of logs, spans, argv and errors."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (self._value,)


def redact(text: str) -> str:
    """Return `text` with the credentials of each URL in it hidden: `amqp://user:pw@host` -> `amqp://***@host`.

    A password that holds an unescaped `/`, `:` or `@` is hidden too; where that is ambiguous it hides more.
    """
    return _CREDENTIALS.sub(f"{MASK}@", text)
