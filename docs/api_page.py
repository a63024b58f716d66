"""Makes docs/api.md from the docstrings of the public names: `python -m docs.api_page > docs/api.md`, or `make docs`.

griffe reads the source (nothing is imported, so the names that `rabbitray` loads at their first use are no matter) and
griffe2md renders it. Ours is only this: signatures are broken into lines and say `async`; a msgspec.Struct or TypedDict
shows its fields as a dataclass does; the fences are `py`, since tests run what a document has in `python` ones.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import griffe
import griffe2md
from jinja2 import Environment, PackageLoader

ROOT = Path(__file__).parents[1]

PAGE: dict[str, tuple[str, ...]] = {
    "rabbitray": (
        "Job", "Message", "Publisher", "SyncPublisher", "PublisherConfig", "batch", "Retry", "Reject",
        "WorkerBroken", "Decoded",
    ),
    "rabbitray.testing": ("work", "work_async", "Outcome", "KitSettings"),
    "rabbitray.actors.publisher": (
        "PublishReport", "FailedJob", "CloseReport", "PublishTotals", "MeterSink", "PublishBatch", "Tracer",
        "EncodedMessage",
    ),
    "rabbitray.errors": (
        "RabbitrayError", "ConfigurationError", "HandlerLoadError", "BrokerUnreachableError", "TopologyError",
        "StoreOpenError", "DecodeError", "EncodeError", "PublisherClosedError", "PublisherFullError",
        "PublishFailedError", "UnroutableError", "RefusedError", "PublishTimeoutError", "UncertainError",
        "StoreUnavailableError", "QueryError",
    ),
}  # fmt: skip
"""What the page shows, in this order. tests/project/test_api_page.py holds it to what the modules export."""

OPENINGS = {"rabbitray.actors.publisher": "What publishers return and take. To publish, nothing of it is imported."}
"""What to say of a module whose docstring is for those who read its code."""

HEAD = """# The public API

Everything that producers, handlers and tests of handlers use; [how it works](how-it-works.md) leads through the rest,
which may change with any release. Times and sizes have their unit in the name: `_s` seconds, `_ms` milliseconds, `_us`
microseconds, `_bytes` bytes.

Made from the docstrings by `make docs`; a test keeps the two the same.
"""

_MAP_LINE = re.compile(r"[a-z_]+ {2,}\S")
_FACTORY = re.compile(r"^(?:msgspec\.)?field\(default_factory=(\w+)\)$")
_CODE = re.compile(r"<code>(.*?)</code>")
_LINK = re.compile(r"\[([^][]+)\]\(#[^)]*\)")
"""griffe2md's link to a class: it leads to an anchor that Markdown does not make."""

CONFIG: dict[str, Any] = {
    "docstring_style": None,
    "filters": ["!^_", "!^try_send$"],
    "heading_level": 3,
    "line_length": 100,
    "members_order": "source",
    "show_bases": True,
    "show_if_no_docstring": False,
    "show_object_full_path": False,
    "show_root_full_path": False,
    "show_root_members_full_path": False,
    "show_signature_annotations": True,
    "summary": False,
}  # Any: what each option of griffe2md takes


def page() -> str:
    """The text of docs/api.md."""
    loader = griffe.GriffeLoader(search_paths=[ROOT], allow_inspection=False)
    package = loader.load("rabbitray")
    loader.resolve_aliases()
    parts = [HEAD]
    for module, names in PAGE.items():
        place: Any = package if module == "rabbitray" else package[module.removeprefix("rabbitray.")]
        parts.append(f"## {module}\n\n{OPENINGS.get(module) or _opening(place)}\n")
        parts += [_rendered(place[name]) for name in names]
    return "\n".join(parts).rstrip() + "\n"


def _opening(module: griffe.Module) -> str:
    """The docstring of a module without its map, which names modules."""
    text = module.docstring.value if module.docstring else ""
    paragraphs = [one for one in text.split("\n\n") if not _MAP_LINE.match(one) and not one.endswith(":")]
    return "\n\n".join(paragraphs)


def _rendered(found: Any) -> str:  # Any: a function or a class, or griffe's alias of one
    thing = found.final_target if found.is_alias else found
    if thing.is_class:
        _show_fields(thing)
    environment = griffe2md.prepare_env(Environment(loader=PackageLoader("griffe2md"), autoescape=False))
    environment.filters["format_signature"] = _signature
    template = environment.get_template(f"{thing.kind.value}.md.jinja")
    text = template.render(**griffe2md.prepare_context(thing, CONFIG))
    return _CODE.sub(_plain, text.replace("```python\n", "```py\n")).strip() + "\n"


def _plain(code: re.Match[str]) -> str:
    shown = _LINK.sub(r"\1", code[1])
    return f"`{shown}`"


def _show_fields(thing: griffe.Class) -> None:
    """Gives a class that has fields and no `__init__` in its source the one that it gets when it is made."""
    fields = [one for one in thing.attributes.values() if one.annotation is not None and "property" not in one.labels]
    if "__init__" in thing.members or not fields:
        return
    optional = "..." if "TypedDict" in map(str, thing.bases) else None
    parameters = [
        griffe.Parameter(
            one.name,
            annotation=one.annotation,
            default=_FACTORY.sub(r"\1()", str(one.value)) if one.value else optional,
            kind=griffe.ParameterKind.keyword_only,
        )
        for one in fields
    ]
    thing.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*parameters), parent=thing))


def _signature(name: str, function: griffe.Function, line_length: int, *, crossrefs: bool) -> str:
    """What to write to call it, on one line, or with a parameter a line; `griffe2md`'s filter of that name."""
    prefix = "async " if "async" in function.labels else ""
    returns = function.name != "__init__"
    line = prefix + function.signature(name=name.strip(), return_type=returns)
    if len(line) <= line_length:
        return line
    return prefix + _broken(function, name.strip(), returns=returns)


def _broken(function: griffe.Function, name: str, *, returns: bool) -> str:
    lines = []
    for parameter in function.parameters:
        if parameter.name == "self":
            continue
        if parameter.kind is griffe.ParameterKind.keyword_only and "*," not in lines:
            lines.append("*,")
        lines.append(_parameter(parameter) + ",")
    end = f" -> {function.annotation}" if returns else ""
    return "\n".join([f"{name}(", *(f"    {line}" for line in lines), f"){end}"])


def _parameter(parameter: griffe.Parameter) -> str:
    stars = "**" if parameter.kind is griffe.ParameterKind.var_keyword else ""
    default = "" if parameter.default is None or stars else f" = {parameter.default}"
    return f"{stars}{parameter.name}: {parameter.annotation}{default}"


if __name__ == "__main__":
    sys.stdout.write(page())
