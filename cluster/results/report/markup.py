"""HTML as text in which everything is escaped unless it is Html already. Pure."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable


class Html(str):
    """Text that is HTML: it is not escaped again. Made by `tag`, `joined` and `data` only."""

    __slots__ = ()


Child = Html | str | int | None
_VOID = frozenset({"meta", "path", "line", "rect"})


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Html:
    """One element. `class_` means class, `_` in an attribute's name means `-`; None leaves it out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{given}>" if name == "meta" else f"<{name}{given}/>")
    return Html(f"<{name}{given}>{joined(children)}</{name}>")


def joined(children: Iterable[Child]) -> Html:
    """Elements and texts one after another; text is escaped, None is nothing."""
    return Html("".join(_one(child) for child in children if child is not None))


def data(value: object) -> Html:
    """A JSON value for the page's script; nothing in it can end the element it stands in."""
    text = json.dumps(value, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json">{text}</script>')


def raw(name: str, text: str) -> Html:
    """A style or script of our own, as it is; never for anything that was read."""
    return Html(f"<{name}>{text}</{name}>")


def _one(child: Child) -> str:
    return child if isinstance(child, Html) else html.escape(str(child))
