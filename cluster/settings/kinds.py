"""How one setting is declared, and the readers of values that pydantic does not know. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import Field
from pydantic.fields import FieldInfo

from rabbitray.actors.remote.placement.read import SIZES

PREFIX: Final = "RABBITRAY_"
_SIZE = re.compile(r"(\d+)\s*([KMG]?I?B)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a setting has beside its type: names, group, what is allowed, the report's value.

    `words`: values that may be meant by one that is not allowed. `own_words`: its reader says what is wrong.
    """

    group: str
    env: str | None = None
    aliases: tuple[str, ...] = ()
    allowed: str | None = None
    none: str | None = None
    report: str | None = None
    size: bool = False
    words: tuple[str, ...] = ()
    own_words: bool = False

    def environ_names(self, name: str) -> tuple[str, ...]:
        """The variables that set it, the one that wins first: our own, the report's, what others call it."""
        own = f"{PREFIX}{name.upper()}"
        return tuple(dict.fromkeys((own, *((self.env,) if self.env else ()), *self.aliases)))

    def shown_env(self, name: str) -> str:
        """The variable to name to people."""
        return self.env or f"{PREFIX}{name.upper()}"


def setting(
    default: object,
    *,
    group: str,
    help: str,
    env: str | None = None,
    aliases: tuple[str, ...] = (),
    allowed: str | None = None,
    none: str | None = None,
    report: str | None = None,
    size: bool = False,
    words: Iterable[str] = (),
    own_words: bool = False,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    pattern: str | None = None,
) -> Any:  # Any: as pydantic's Field, the annotation on the left is the type
    """One setting. `none` is the word that stands for None, `report` the report's value if ours differs."""
    kind = Kind(
        group=group,
        env=env,
        aliases=aliases,
        allowed=allowed,
        none=none,
        report=report,
        size=size,
        words=tuple(words),
        own_words=own_words,
    )
    return Field(
        default,
        description=help,
        ge=ge,
        gt=gt,
        le=le,
        pattern=pattern,
        json_schema_extra={"kind": kind},  # type: ignore[dict-item] # never rendered as JSON schema
    )


def kind_of(field: FieldInfo) -> Kind:
    """The Kind of a field of Settings."""
    extra: object = field.json_schema_extra
    kind: object = extra.get("kind") if isinstance(extra, dict) else None
    if not isinstance(kind, Kind):
        raise TypeError("a field of Settings that was not made by setting()")
    return kind


def allowed_values(field: FieldInfo) -> str:
    """What is allowed, in words: `a whole number from 0 to 100`."""
    kind = kind_of(field)
    text = kind.allowed or _by_type(field)
    return f"{text}, or {kind.none}" if kind.none else text


def meant(field: FieldInfo, value: object) -> str | None:
    """The word that is allowed and nearest to a value that is not; None for none."""
    words = kind_of(field).words or [word for word in _types(field) if isinstance(word, str)]
    near = get_close_matches(value, words, 1) if isinstance(value, str) else []
    return near[0] if near else None


def _by_type(field: FieldInfo) -> str:
    types = _types(field)
    if bool in types:
        return "true or false"
    if choices := [choice for choice in types if isinstance(choice, str)]:
        return "one of " + ", ".join(choices)
    what = "a number" if float in types else "a whole number"
    if kind_of(field).size:
        what = "bytes, or a size such as 64MiB,"
    return f"{what} {_range(field)}".strip()


def _types(field: FieldInfo) -> tuple[object, ...]:
    if get_origin(field.annotation) is Literal:
        return get_args(field.annotation)
    return get_args(field.annotation) or (field.annotation,)


def _range(field: FieldInfo) -> str:
    low = next((f"from {m.ge}" for m in field.metadata if isinstance(m, Ge)), "")
    low = next((f"above {m.gt}" for m in field.metadata if isinstance(m, Gt)), low)
    high = next(
        (f"to {m.le}" if low.startswith("from") else f"up to {m.le}" for m in field.metadata if isinstance(m, Le)),
        "",
    )
    return f"{low} {high}".strip()


def byte_size(value: object) -> object:
    """Bytes of `64MiB`, `100 kB` or `4096`; what it cannot read it returns for pydantic to refuse."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        return value
    return int(match[1]) * SIZES.get((match[2] or "B").upper(), 1)


def pairs(text: str) -> dict[str, str]:
    """The pairs of `name=value, name=value`. Raises ValueError for a name that is there twice."""
    found = rows(text)
    if len(dict(found)) != len(found):
        raise ValueError("a name is there twice")
    return dict(found)


def rows(text: str) -> list[tuple[str, str]]:
    """The pairs of `name=value, name=value`, in order."""
    parts = (row.partition("=") for row in text.split(",") if row.strip())
    return [(name.strip(), value.strip()) for name, _, value in parts]
