"""TypeCodes: one-letter codes for message types, and the way back without ambiguity. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rabbitray.actors.errors import ConfigurationError, DecodeError

_LITERAL: Final = "="


class TypeCodes:
    """The codes that compact forms write instead of frequent message types; immutable.

    Producer and consumer need the same codes. A code is one upper-case ASCII letter. A type that has no code
    is written in full; one that looks like a code, or starts with `=`, is written with `=` before it, so
    every type comes back as it was. A letter that stands for nothing here is refused on reading.
    """

    __slots__ = ("_by_code", "_by_name")

    def __init__(self, names: Mapping[str, str]) -> None:
        for code, name in names.items():
            if len(code) != 1 or not "A" <= code <= "Z" or len(name) < 2:
                raise ConfigurationError(
                    f"type code {code!r} for {name!r}: a code is one letter A-Z, a type has two or more"
                )
        self._by_code = dict(names)
        self._by_name = {name: code for code, name in names.items()}
        if len(self._by_name) != len(self._by_code):
            raise ConfigurationError(f"type codes {dict(names)}: two codes for one message type")

    def extended(self, more: Mapping[str, str]) -> TypeCodes:
        """Return these codes and `more` (code -> message type) together."""
        return TypeCodes({**self._by_code, **more})

    def write(self, name: str) -> str:
        """Return what stands for the message type `name` on the wire."""
        code = self._by_name.get(name)
        if code is not None:
            return code
        return _LITERAL + name if len(name) == 1 or name.startswith(_LITERAL) else name

    def read(self, text: str) -> str:
        """Return the message type that `text` stands for; DecodeError for a letter without a meaning."""
        name = self._by_code.get(text)
        if name is not None:
            return name
        if text.startswith(_LITERAL):
            return text[1:]
        if len(text) == 1 and "A" <= text <= "Z":
            raise DecodeError("unknown_type_code", f"no message type is registered for the code {text!r}")
        return text


REPORT_CODES: Final = TypeCodes({"B": "BIRTHDAY", "A": "ANNIVERSARY"})
"""The report's two codes (section 3.1)."""
