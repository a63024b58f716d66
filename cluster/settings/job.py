"""Ray's job server and Ray jobs, as this process's environment tells of them: no settings of a pool."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.secret import Secret

JOB_STOP_WAIT: Final = "RAY_JOB_STOP_WAIT_TIME_S"
RAY_JOB_MARK: Final = "RAY_JOB_CONFIG_JSON_ENV_VAR"
RAY_JOB_STOP_WAIT_DEFAULT_S: Final = 3.0
SENT_VARIABLE: Final = "RABBITRAY_SENT"
"""Set in a job's environment: under which name its secrets wait for it."""
_OF_A_PASSWORD: Final = re.compile("passw|secret|_pass$|_pwd$", re.IGNORECASE)
_OF_A_SECRET: Final = re.compile(
    f"{_OF_A_PASSWORD.pattern}|token(?!iz)|credential|(api|private|access)_?key|headers", re.IGNORECASE
)
_NO_SECRET: Final = re.compile(r"_(FILE|PATH|DIR|URI)$", re.IGNORECASE)
_SWITCH: Final = re.compile("true|false|yes|no|on|off", re.IGNORECASE)
_COUNT: Final = re.compile("[0-9]{1,6}")
_URL_BEGINS: Final = re.compile("[A-Za-z][A-Za-z0-9+.-]*://")
_OF_A_COLLECTOR: Final = re.compile("OTEL_EXPORTER_.+|OTEL_.+_EXPORTER")
_PUBLIC_LOGIN: Final = ("guest", "guest")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobServerAccess:
    """How this user reaches a job server. `address`: as Ray's own variables name it; `headers`: of every request;
    `token`: of this machine, if there is one, from `token_from`; `always`: it is sent without being asked for.
    `gitignore`: whether .gitignore says what is not uploaded.
    """

    address: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    token: Secret | None = None
    token_from: str = ""
    always: bool = False
    gitignore: bool = True


def job_server_access() -> JobServerAccess:
    """Read from this process's environment. Raises ConfigurationError for what cannot be read."""
    mode = os.environ.get("RAY_AUTH_MODE", "").strip().lower()
    token, source = (None, "") if mode == "disabled" else _token()
    return JobServerAccess(
        address=os.environ.get("RAY_API_SERVER_ADDRESS", "").strip() or None,
        headers=_headers(os.environ.get("RAY_JOB_HEADERS", "")),
        token=token,
        token_from=source,
        always=mode == "token",
        gitignore=os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") != "1",
    )


def _token() -> tuple[Secret | None, str]:
    """In the order in which Ray looks for it."""
    if text := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return Secret(text), "RAY_AUTH_TOKEN"
    named = os.environ.get("RAY_AUTH_TOKEN_PATH", "").strip()
    file = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        return Secret(file.read_text(encoding="utf-8").strip()) or None, str(file)
    except (OSError, ValueError) as error:
        if not named:
            return None, ""
        raise ConfigurationError(
            f"RAY_AUTH_TOKEN_PATH={named}: cannot be read: {getattr(error, 'strerror', None) or 'no text'}"
        ) from None


def _headers(text: str) -> dict[str, str]:
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigurationError('RAY_JOB_HEADERS: must be a JSON object, such as {"X-Team": "mail"}')
    return {str(name): str(value) for name, value in found.items()}


def shown_secrets(variables: Mapping[str, object]) -> tuple[str, ...]:
    """The names of those that seem to hold a secret: by what they are called, or a login in a URL. Pure.

    A switch is none, and a short number only where the name is one of a password: `MAX_TOKENS=512` is a setting.
    """
    return tuple(name for name, value in variables.items() if _may_be_secret(name, str(value)))


def _may_be_secret(name: str, value: str) -> bool:
    if not value or _NO_SECRET.search(name):
        return False
    if _SWITCH.fullmatch(value) or (_COUNT.fullmatch(value) and not _OF_A_PASSWORD.search(name)):
        return False
    return bool(_OF_A_SECRET.search(name)) or any(_has_login(url) for url in _urls_in(value))


def _urls_in(text: str) -> Iterable[str]:
    """From each beginning of a URL to the end of its word: `--find-links=https://...`, too."""
    return (text[begin.start() :].split(maxsplit=1)[0] for begin in _URL_BEGINS.finditer(text))


def _has_login(word: str) -> bool:
    try:
        parts = urlsplit(word)
        return parts.password is not None and (parts.username, parts.password) != _PUBLIC_LOGIN
    except ValueError:
        return "@" in word


def job_stop_wait_s(environ: Mapping[str, str]) -> float | None:
    """What `ray job stop` waits before it kills; None outside of a Ray job. Pure."""
    text = environ.get(JOB_STOP_WAIT, "")
    if text.strip().isdecimal():  # Ray takes whole seconds only
        return float(text)
    return RAY_JOB_STOP_WAIT_DEFAULT_S if RAY_JOB_MARK in environ else None


def secrets_of_job(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The variables of this job's runtime environment that seem to hold a secret; empty outside of a Ray job. Pure."""
    try:
        found = json.loads(environ.get(RAY_JOB_MARK, "{}"))["runtime_env"]["env_vars"]
        return shown_secrets(found)
    except (ValueError, KeyError, TypeError, AttributeError):  # no job, or one without variables
        return ()


def in_job_folder(path: Path, environ: Mapping[str, str]) -> bool:
    """Whether a file would lie in the folder that Ray unpacks for this job, and deletes. Pure."""
    return RAY_JOB_MARK in environ and "working_dir_files" in path.absolute().parts


def sent_name() -> str | None:
    """Under which name this job's secrets wait, if any do."""
    return os.environ.get(SENT_VARIABLE) or None


def add_to_environment(variables: Mapping[str, Secret]) -> None:
    """Makes these variables of this process, which no listing of processes shows."""
    os.environ.pop(SENT_VARIABLE, None)
    os.environ.update({name: value.reveal() for name, value in variables.items()})


def names_collector(variable: str) -> bool:
    """Whether a variable of this name says something of a collector of traces or metrics. Pure."""
    return _OF_A_COLLECTOR.fullmatch(variable) is not None


def collectors_here() -> tuple[str, ...]:
    """The variables of this process that name a collector, or the access to it."""
    return tuple(
        sorted(name for name, value in os.environ.items() if names_collector(name) and value not in ("", "none"))
    )


def ray_address_here() -> str | None:
    """The GCS of the Ray that this job runs on."""
    return os.environ.get("RAY_ADDRESS") or None
