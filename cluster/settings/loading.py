"""Loading: command line over environment over rabbitray.toml over defaults, all mistakes in one go."""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.rabbitmq import addresses
from rabbitray.actors.secret import Secret, several, without_credentials
from rabbitray.autoscale.policy.signals import START_MARGIN_S
from rabbitray.cluster.settings.derived import DERIVED
from rabbitray.cluster.settings.job import SENT_VARIABLE, in_job_folder, job_stop_wait_s, secrets_of_job, shown_secrets
from rabbitray.cluster.settings.kinds import PREFIX, allowed_values, kind_of, meant
from rabbitray.cluster.settings.model import DEFAULT_URL, Settings
from rabbitray.cluster.settings.private_node import RABBITMQ_VARIABLE
from rabbitray.cluster.telemetry.config import UNSUPPORTED, TelemetryConfig

TOML_NAME: Final = "rabbitray.toml"
TOML_VARIABLE: Final = "RABBITRAY_CONFIG"
COMMAND_LINE: Final = "command line"
DEFAULT_SHOWN: Final = without_credentials(Secret(DEFAULT_URL))

NO_MEANING: Final = {
    "DATABASE_POOL_MAX": "a DuckDB file has one writer",
    "DATABASE_POOL_MIN": "a DuckDB file has one writer",
    "DATABASE_IDLE_TIMEOUT": "the one connection stays open",
}
"""Variables of the report that have no meaning here: named in a notice when somebody sets them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings with their origin.

    `sources`: setting -> where its value came from. `notices`: one line each about variables that had no
    effect. Of the Ray job that this is: `job_stop_wait_s`, what `ray job stop` waits before it kills (None outside of
    one); `shown_secrets`, variables of its runtime environment that seem to hold secrets; `results_go`, whether its
    results file lies where Ray deletes it. `handed`: variables for the handler, in each worker.
    """

    settings: Settings
    sources: dict[str, str]
    telemetry: TelemetryConfig
    notices: tuple[str, ...] = ()
    job_stop_wait_s: float | None = None
    shown_secrets: tuple[str, ...] = ()
    results_go: bool = False
    handed: Mapping[str, Secret] = field(default_factory=dict)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What no text of this process may show: the logins of the broker and of the collectors, and of what is handed
        to the handler that which seems to be a secret: others, such as a name, would be hidden wherever they stand."""
        to = self.telemetry
        handed = shown_secrets({name: value.reveal() for name, value in self.handed.items()})
        found = (self.settings.rabbitmq_url, *to.collector.secrets, *to.metrics.collector.secrets)
        return tuple(dict.fromkeys((*found, *(self.handed[name] for name in handed))))

    def is_set(self, name: str) -> bool:
        """Whether the user set it, in whatever way."""
        return self.sources[name] not in ("default", f"derived from {DERIVED.get(name)}")

    def asked(self, **own: object) -> Loaded:
        """The same with these values, as if they stood on the command line."""
        settings = self.settings.model_copy(update=own)
        return replace(self, settings=settings, sources=self.sources | dict.fromkeys(own, COMMAND_LINE))

    def is_asked(self, name: str) -> bool:
        """Whether it stands on this command line."""
        return self.sources[name] == COMMAND_LINE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """One value that the user gave. `label` is how he wrote its name, `where` where."""

    value: object
    label: str
    where: str


_Layer = dict[str, _Given]


def load(cli: Mapping[str, object], environ: Mapping[str, str], toml_path: Path | None) -> Loaded:
    """The effective settings.

    `cli` maps names of settings to what was given on the command line (None: not given); an empty variable
    counts as not set, but that of the broker's URL, where no other one is given. Raises ConfigurationError with one
    line for each mistake: name as the user wrote it, where, value (secrets masked), what is allowed.
    """
    problems: list[str] = []
    layers = [_from_toml(toml_path, problems), _from_environ(environ), _from_cli(cli, problems)]
    for layer in layers:
        _read_url_file(layer, problems)
    _refuse_empty_url(layers, environ, problems)
    given = {name: value for layer in layers for name, value in layer.items()}
    settings = _validated(given, problems)
    if settings is not None:
        problems.extend(_start_too_short(settings))
    telemetry = _telemetry(environ, problems)
    if problems or settings is None or telemetry is None:
        raise ConfigurationError("\n".join(problems))
    return Loaded(
        settings=settings,
        sources={name: _source(name, given) for name in Settings.model_fields},
        telemetry=telemetry,
        notices=tuple(_notices(environ)),
        job_stop_wait_s=job_stop_wait_s(environ),
        shown_secrets=secrets_of_job(environ),
        results_go=in_job_folder(settings.results, environ),
    )


def load_here(cli: Mapping[str, object]) -> Loaded:
    """`load` for this process: its environment, and rabbitray.toml beside it (or at RABBITRAY_CONFIG)."""
    return load(cli, os.environ, toml_here())


def toml_here() -> Path | None:
    """The file with settings of this process, if there is one."""
    named = os.environ.get(TOML_VARIABLE)
    here = Path(TOML_NAME)
    return Path(named) if named else here if here.exists() else None


def _from_cli(cli: Mapping[str, object], problems: list[str]) -> _Layer:
    layer = {}
    for name, value in cli.items():
        flag = "--" + _plain(name.replace("_", "-"))
        if name not in Settings.model_fields:
            problems.append(f"{flag}: there is no such setting{_did_you_mean(name)}")
        elif value is not None:
            layer[name] = _Given(value=value, label=flag, where=COMMAND_LINE)
    shown = layer.get("rabbitmq_url")
    if shown is not None and _shows_password(shown.value):
        problems.append(
            "--rabbitmq-url: a password on the command line is seen by everybody on this machine and in "
            "Ray's dashboard; use RABBITMQ_URL or RABBITMQ_URL_FILE"
        )
    return layer


def _from_environ(environ: Mapping[str, str]) -> _Layer:
    layer = {}
    for name in Settings.model_fields:
        for variable in _names(name):
            if environ.get(variable, "").strip():
                layer[name] = _Given(value=environ[variable].strip(), label=variable, where="environment")
                break
    return layer


def _names(name: str) -> tuple[str, ...]:
    """The variables that set it."""
    return kind_of(Settings.model_fields[name]).environ_names(name)


def _from_toml(path: Path | None, problems: list[str]) -> _Layer:
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
        return {}
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: not valid TOML: {error}")
        return {}
    layer = {}
    for key, value in content.items():
        where = f"{path} line {_line_of(key, text)}"
        if key not in Settings.model_fields:
            problems.append(f"{_plain(key)} ({where}): there is no such setting{_did_you_mean(key)}")
        else:
            layer[key] = _Given(value=value, label=key, where=where)
    if "rabbitmq_url" in layer and _shows_password(layer["rabbitmq_url"].value):
        _refuse_open_file(path, f"rabbitmq_url ({layer['rabbitmq_url'].where})", problems)
    return layer


def _read_url_file(layer: _Layer, problems: list[str]) -> None:
    """Within one layer a URL beats a file; the file's content then counts as this layer's URL."""
    file = layer.get("rabbitmq_url_file")
    direct = layer.get("rabbitmq_url")
    if file is None or (direct is not None and direct.label not in ("AMQP_URL", "CLOUDAMQP_URL")):
        return
    path = Path(str(file.value))
    try:
        url = addresses.BrokerUrls(addresses.read_text(path), path.absolute())
        if not url.reveal():
            raise ValueError("is empty; a URL must be amqp:// or amqps://, see docs/configuration.md")
    except ValueError as error:
        problems.append(f"{file.label}={_plain(str(path))} ({file.where}): {error}")
        return
    layer["rabbitmq_url"] = _Given(value=url, label=file.label, where=f"file {_plain(str(path))}")


def _refuse_empty_url(layers: Iterable[_Layer], environ: Mapping[str, str], problems: list[str]) -> None:
    """An empty variable, as a deployment that lacks its secret sets it, must not mean the broker of this machine."""
    if any({"rabbitmq_url", "rabbitmq_url_file"} & layer.keys() for layer in layers):
        return
    names = (*_names("rabbitmq_url"), kind_of(Settings.model_fields["rabbitmq_url_file"]).env)
    problems.extend(
        f"{name} (environment): is empty; set it, or unset it if {DEFAULT_SHOWN} is meant"
        for name in names
        if name is not None and name in environ
    )


def _refuse_open_file(path: Path, label: str, problems: list[str]) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        problems.append(f"{label}: others can read the password (mode {mode:04o}); run chmod 600 {_plain(str(path))}")


def _validated(given: _Layer, problems: list[str]) -> Settings | None:
    values: dict[str, object] = {}
    refused: dict[str, str] = {}
    for name, one in given.items():
        if isinstance(one.value, bool) and Settings.model_fields[name].annotation is not bool:
            refused[name] = ""  # TOML's true would pass for 1
        else:
            values[name] = _none_word(name, one.value)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        settings = None
        for detail in error.errors():
            refused.setdefault(str(detail["loc"][0]), _own_words(detail["msg"]))
    problems.extend(_refusal(name, given[name], why) for name, why in refused.items() if name in given)
    return settings


def _start_too_short(settings: Settings) -> Iterable[str]:
    """A worker that only waits for its place must be withdrawn before it counts as a failed start."""
    least_s = settings.pending_limit_s + START_MARGIN_S
    if settings.start_timeout_s < least_s:
        yield (
            f"start_timeout_s={settings.start_timeout_s:g}: must be at least {least_s:g}, which is pending_limit_s "
            f"{settings.pending_limit_s:g} and {START_MARGIN_S:g}; raise it, leave it out, or lower pending_limit_s"
        )


def _none_word(name: str, value: object) -> object:
    word = kind_of(Settings.model_fields[name]).none
    return None if word and isinstance(value, str) and value.strip().lower() in (word, "none", "") else value


def _own_words(message: str) -> str:
    """What a reader of ours said, without pydantic's words before it."""
    return message.removeprefix("Value error, ")


def _refusal(name: str, one: _Given, why: str) -> str:
    """`why`: in the words of whoever read it; told where the setting says so."""
    field = Settings.model_fields[name]
    if kind_of(field).own_words and why:
        return f"{one.label} ({one.where}): {why}"
    shown, which = _cropped(one.value), ""
    if field.annotation is Secret:
        urls = addresses.of(one.value)
        shown, which = "***", addresses.nth(urls, addresses.first_unusable(urls) or 0)
    word = meant(field, one.value)
    hint = f"; did you mean {word}?" if word else ""
    return f"{one.label}={shown} ({one.where}): {which}must be {allowed_values(field)}{hint}"


def _plain(text: str) -> str:
    """`text` as it is, where it fits into one line."""
    return text if text.isprintable() and len(text) <= 200 else _cropped(text)


def _cropped(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _telemetry(environ: Mapping[str, str], problems: list[str]) -> TelemetryConfig | None:
    try:
        return TelemetryConfig.from_environ(environ)
    except ConfigurationError as error:
        problems.extend(str(error).splitlines())
        return None


def _source(name: str, given: _Layer) -> str:
    if name not in given:
        origin = DERIVED.get(name)
        return "default" if origin is None or _source(origin, given) == "default" else f"derived from {origin}"
    one = given[name]
    return f"environment {one.label}" if one.where == "environment" else one.where


def _notices(environ: Mapping[str, str]) -> Iterable[str]:
    known = {variable for name in Settings.model_fields for variable in _names(name)}
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known | {TOML_VARIABLE, RABBITMQ_VARIABLE, SENT_VARIABLE}:
            hint = _did_you_mean(variable.removeprefix(PREFIX).lower(), PREFIX)
            yield f"{variable} is set, but there is no such setting{hint}"
    for variable, reason in {**NO_MEANING, **UNSUPPORTED}.items():
        if variable in environ:
            yield f"{variable} is set, but has no effect: {reason}"


def _did_you_mean(name: str, prefix: str = "") -> str:
    close = difflib.get_close_matches(name.replace("-", "_").lower(), Settings.model_fields, 1)
    if not close:
        return ""
    return f"; did you mean {prefix}{close[0].upper() if prefix else close[0]}?"


def _line_of(key: str, text: str) -> int:
    pattern = re.compile(rf"""\s*\[?\s*["']?{re.escape(key)}["']?\s*[.=\]]""")
    lines = text.splitlines()
    return next((number for number, line in enumerate(lines, 1) if pattern.match(line)), 1)


def _shows_password(value: object) -> bool:
    return any(_has_password(url.reveal()) for url in several(addresses.of(value)))


def _has_password(text: str) -> bool:
    if text == DEFAULT_URL:
        return False
    try:
        parts = urlsplit(text)
        return parts.password is not None and (parts.username, parts.password) != ("guest", "guest")
    except ValueError:
        return "@" in text
