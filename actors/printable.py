r"""Text of strangers for people, and any value as JSON: nothing in either steers a terminal or hides. Pure.

A key, an id, an error or a body may hold whatever its writer liked: escape sequences that repaint the terminal, line
breaks that look like another entry, directions that reverse what is read, characters that take no room. `printable`
stands at the edge of every output for people; JSON says such characters by its own escapes and stays faithful.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
from collections.abc import Mapping, Set
from datetime import date, time
from decimal import Decimal
from typing import Any, Final

_SUSPECT: Final = re.compile(
    r"[^ -~\xa1-\xac\xae-\u034e\u0400-\u052f\u05d0-\u05ea\u0621-\u064a\u0904-\u0939\u0e01-\u0e30"
    r"\u3041-\u3096\u30a1-\u30ff\u4e00-\u9fff\uac00-\ud7a3\U0001f300-\U0001f64f]"
)
"""All but characters that are seen and common, which are passed over at the speed of `re`; each other one is asked."""
_UNSEEN: Final = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Printable for Python, and nobody sees it: Default_Ignorable_Code_Point of Unicode, and the empty braille pattern."""
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_DEEPEST: Final = 200
_LONGEST_INT_BITS: Final = 12_000  # Python writes no integer of more than 4,300 digits
_NO_NUMBERS: Final = {math.inf: "Infinity", -math.inf: "-Infinity"}


def printable(text: str) -> str:
    r"""`text` as people may see it: each character that is no letter, mark, sign or space is shown as an escape.

    That is: control characters (C0, C1), line and paragraph separators, what sets the direction of writing, what
    takes no room, spaces other than the usual one, private and unassigned code points, lone surrogates. `\x1b`,
    `\u202e`, `\n`. A backslash stays as it is, so the escapes cannot be told from text that looks like them: JSON can.
    """
    return _SUSPECT.sub(lambda found: _shown(found[0]), text)


def below(text: str) -> str:
    """The lines of a text that stands under an entry, e.g. a traceback: printable, each one with two spaces before it.

    So only entries begin in the first column, whatever line breaks an exception's text has.
    """
    return "\n".join(f"  {printable(line)}" for line in text.split("\n"))


def _is_seen(character: str) -> bool:
    return character.isprintable() and _UNSEEN.match(character) is None


def _shown(character: str) -> str:
    if _is_seen(character):
        return character
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_text(value: object, *, indent: int | None = None) -> str:
    """Any value as JSON, on one line without `indent`; what `printable` escapes is escaped by JSON's own means.

    Never fails: bytes are base64, NaN and infinities the texts "NaN", "Infinity", "-Infinity", a decimal is a number
    where a double holds it exactly, else text; an integer beyond 12,000 bits is hexadecimal text; dataclasses are
    objects, times ISO 8601, keys text; what is nested more than 200 deep, or nothing of these, is its `str`.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain, indent=indent)
    except (TypeError, ValueError, OverflowError, RecursionError):
        text = json.dumps(_strict(value, _DEEPEST), ensure_ascii=False, indent=indent)
    return _SUSPECT.sub(lambda found: _json_character(found[0]), text)


def _json_character(character: str) -> str:
    """Line breaks stand between values only: JSON itself has escaped those in texts."""
    if character == "\n" or _is_seen(character):
        return character
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def _plain(value: object) -> object:
    """One step from a value that `json` does not know towards one that it knows."""
    match value:
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode("ascii")
        case Decimal():
            return _number(value)
        case date() | time():
            return value.isoformat().replace("+00:00", "Z")
        case Mapping():
            return dict(value)
        case Set():
            return list(value)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return _said(value)


def _said(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 # whatever a stranger's `__str__` raises
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _number(value: Decimal) -> object:
    """A decimal as a number that is exactly it, else as text."""
    if not value.is_finite() or value.adjusted() > 300:
        return str(value)
    if value == value.to_integral_value():
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else str(value)


def _strict(value: object, depth: int) -> Any:  # Any: JSON values
    """The value with text keys, without NaN and without integers that Python does not write."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _NO_NUMBERS.get(value, "NaN")
    if isinstance(value, int):
        return int(value) if value.bit_length() <= _LONGEST_INT_BITS else hex(value)
    if depth <= 0:
        return "..."
    if isinstance(value, Mapping):
        return {_key(name): _strict(one, depth - 1) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(one, depth - 1) for one in value]
    return _strict(_plain(value), depth - 1)


def _key(name: object) -> str:
    found = _strict(name, 1)
    return found if isinstance(found, str) else json_text(found)
