"""Showing: the rows of `rabbitray config`, and docs/configuration.md made from the settings themselves."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import groupby

from rabbitray.actors.secret import Redactor, Secret, without_credentials
from rabbitray.cluster.settings.kinds import allowed_values, kind_of
from rabbitray.cluster.settings.loading import Loaded
from rabbitray.cluster.settings.model import Settings

_INTRO = """# Configuration

Made from `cluster/settings/model.py` by `python -m rabbitray.cluster.settings`; a test keeps both the same.

Command line (`--min-size 2`) over environment over `rabbitray.toml` (`min_size = 2`) over default.
`rabbitray config` prints each value and where it came from. Every setting can also be set as `RABBITRAY_`
and its name in capitals, which beats the variable given here. An empty variable counts as not set.
A value that is out of range, and a key of `rabbitray.toml` that does not exist, ends a command with exit
code 2 before anything is consumed; an unknown `RABBITRAY_` variable is named in the log.
Units stand in the names; variables that the report names keep its names and units (milliseconds).

The broker's URL with a password belongs into `RABBITMQ_URL`, or into a file of mode 0600 that
`RABBITMQ_URL_FILE` names; it is refused on the command line. All standard `OTEL_*` variables are
respected: traces go out when `OTEL_TRACES_EXPORTER` (`none`, `console`, `otlp`) or
`OTEL_EXPORTER_OTLP_ENDPOINT` asks for them, over HTTP; metrics are on Ray's Prometheus endpoint, and over
OTLP, too, when `OTEL_METRICS_EXPORTER` asks for it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingRow:
    """One setting as people see it: `value` has no secrets in it."""

    name: str
    value: str
    source: str
    env: str
    allowed: str
    help: str
    group: str


def describe(loaded: Loaded) -> list[SettingRow]:
    """A row for each setting, in the order of the model; a known password is hidden in whichever value it stands."""
    redact = Redactor(*loaded.secrets)
    return [
        SettingRow(
            name=name,
            value=redact(shown(name, getattr(loaded.settings, name))),
            source=loaded.sources[name],
            env=kind_of(field).shown_env(name),
            allowed=allowed_values(field),
            help=field.description or "",
            group=kind_of(field).group,
        )
        for name, field in Settings.model_fields.items()
    ]


def shown(name: str, value: object) -> str:
    """A value in the form in which it can be set again, passwords masked."""
    kind = kind_of(Settings.model_fields[name])
    if value is None:
        return kind.none or ""
    if isinstance(value, Secret):
        return without_credentials(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if name == "worker_runtime_env" and value:
        return _without_values(str(value))
    return _size(value) if kind.size and isinstance(value, int) else str(value)


def configuration_markdown() -> str:
    """The text of docs/configuration.md."""
    parts = [_INTRO]
    fields = Settings.model_fields.items()
    for group, members in groupby(fields, key=lambda member: kind_of(member[1]).group):
        parts.append(f"\n## {group}\n\n| setting | environment | default | allowed | what it does |")
        parts.append("|---|---|---|---|---|")
        parts += [_line(name) for name, _ in members]
    return "\n".join(parts) + "\n"


def _line(name: str) -> str:
    field = Settings.model_fields[name]
    kind = kind_of(field)
    default = shown(name, field.default) if name != "pool" else "from the queue"
    cell = f"`{default}`" if default else ""
    if kind.report:
        cell += f" (report: {kind.report})"
    others = kind.environ_names(name)[1:]
    env = ", ".join(f"`{variable}`" for variable in others) or f"`{kind.shown_env(name)}`"
    return f"| `{name}` | {env} | {cell} | {allowed_values(field)} | {_quoted(field.description or '')} |"


def _quoted(text: str) -> str:
    """`<queue>.dead` in backticks: Markdown would take it for a tag."""
    return re.sub(r"<\w+>[\w.-]*\w", r"`\g<0>`", text)


def _without_values(env: str) -> str:
    """A runtime_env without the values of its variables."""
    own = json.loads(env)
    variables = {"env_vars": dict.fromkeys(own["env_vars"], "***")} if "env_vars" in own else {}
    return json.dumps(own | variables)


def _size(value: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return str(value)
