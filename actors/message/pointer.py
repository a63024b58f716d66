"""JSON pointers (RFC 6901): which value of a document one names. Pure; of msgpack and CBOR documents, too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

Tokens = tuple[str, ...]
"""The reference tokens of a pointer, unescaped; none for the whole document."""

NOTHING: Final = object()
"""What a pointer names that leads nowhere; null is a value."""

_ESCAPE = re.compile(r"~(?![01])")
_INDEX = re.compile(r"0|[1-9][0-9]{0,17}")
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}")


def pointer_tokens(pointer: str) -> Tokens | None:
    """The tokens of a pointer (RFC 6901, 3 and 4); None for a text that is none."""
    if not pointer:
        return ()
    if not pointer.startswith("/") or _ESCAPE.search(pointer):
        return None
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/"))


def pointer_value(document: Any, tokens: Tokens) -> Any:  # Any: whatever a producer sent
    """The value that the tokens lead to, or NOTHING.

    In a map that is not from JSON a whole number may be a name: it is found by its decimal text where no text is.
    """
    for token in tokens:
        if isinstance(document, dict | Mapping):
            document = _member(document, token)
        elif isinstance(document, list | tuple):
            at = int(token) if _INDEX.fullmatch(token) else len(document)
            document = document[at] if at < len(document) else NOTHING
        else:
            return NOTHING
        if document is NOTHING:
            break
    return document


def _member(document: Mapping[Any, Any], token: str) -> Any:  # Any: as above
    if token in document:
        return document[token]
    return document.get(int(token), NOTHING) if _NUMBER.fullmatch(token) else NOTHING
