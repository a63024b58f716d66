"""Settings -> the job that is asked for: its entrypoint, runtime environment and metadata. Pure."""

from __future__ import annotations

import json
import math
import re
import secrets
import shlex
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.printable import printable
from rabbitray.actors.remote.inline import INLINE_VARIABLES
from rabbitray.actors.remote.placement.read import URI
from rabbitray.cluster.settings import Loaded, Settings
from rabbitray.cluster.settings.job import JOB_STOP_WAIT, SENT_VARIABLE, shown_secrets
from rabbitray.cluster.settings.kinds import kind_of
from rabbitray.cluster.settings.model import NAME_PATTERN
from rabbitray.cluster.submit.variables import file_alone

STAYS: Final = frozenset({"rabbitmq_url", "rabbitmq_url_file", "ray_address", "failpoint"})
"""Settings that say something of this machine, or are secret."""
OPTIONS_OF_OURS: Final = {"working_dir": "--working-dir", "excludes": "--exclude"}
FILES: Final = {
    "pip": "a list of requirements",
    "uv": "a list of requirements",
    "conda": "the environment itself, or the name of one on the cluster",
    "py_modules": "a list of URIs",
}
"""What Ray's own client reads on the machine that submits, and what to give instead."""
STOP_MARGIN_S: Final = 30
"""What ending workers, store and traces may take beyond the drain deadline, before Ray kills."""


def stop_wait_s(drain_deadline_s: float) -> int:
    """What `ray job stop` should wait, in whole seconds."""
    return math.ceil(drain_deadline_s) + STOP_MARGIN_S


def new_id(pool: str) -> str:
    """A submission id that nobody else has, by which people know whose job it is."""
    return f"{pool}-{secrets.token_hex(4)}"


def require_id(text: str) -> str:
    """The submission id that the user chose. Raises ConfigurationError for one that has no place in a URL or a file."""
    if not re.fullmatch(NAME_PATTERN, text):
        raise ConfigurationError(f"--submission-id {printable(text)}: must be letters, digits, _ . - (at most 63)")
    return text


def options(loaded: Loaded) -> list[str]:
    """What is set here, in whatever way, as options of `rabbitray run`."""
    names = [name for name in Settings.model_fields if name not in STAYS and loaded.is_set(name)]
    return [word for name in names for word in _option(name, getattr(loaded.settings, name))]


def _option(name: str, value: object) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if value is None:
        return [f"--{flag}", kind_of(Settings.model_fields[name]).none or ""]
    return [f"--{flag}", repr(value) if isinstance(value, float) else str(value)]


def entrypoint(loaded: Loaded, *, python: str, more: Iterable[str] = ()) -> str:
    """The line that Ray gives to a shell. `python`: of the cluster, where `~/` is its user's home.

    `exec`, so that no shell stands between Ray and the driver.
    """
    home, rest = ("~/", python[2:]) if python.startswith("~/") else ("", python)
    return f"exec {home}{shlex.quote(rest)} -m rabbitray run {shlex.join([*options(loaded), *more])}"


def metadata(loaded: Loaded, version: str) -> dict[str, str]:
    """What the job's page in Ray's dashboard shows beside its entrypoint."""
    settings = loaded.settings
    return {
        "app": "rabbitray",
        "version": version,
        "pool": settings.pool,
        "queue": settings.queue,
        "namespace": settings.ray_namespace,
    }


def own_environment(text: str | None) -> dict[str, Any]:  # Any: JSON values
    """The user's own runtime environment (`pip`, `uv`, `env_vars`, ...), from JSON. Raises ConfigurationError for what
    is none, for files of this machine, and for secrets, which are seen by all who reach the job server.
    """
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"--runtime-env-json: no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigurationError('--runtime-env-json: must be an object, such as {"pip": ["httpx"]}')
    if elsewhere := [option for name, option in OPTIONS_OF_OURS.items() if name in found]:
        raise ConfigurationError(f"--runtime-env-json: has what is given as {' and '.join(elsewhere)}")
    if files := [name for name in FILES if _is_of_this_machine(name, found.get(name))]:
        raise ConfigurationError(f"--runtime-env-json: {files[0]} names a file of this machine; give {FILES[files[0]]}")
    variables = found.get("env_vars", {})
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        raise ConfigurationError("--runtime-env-json: env_vars must be an object whose values are texts")
    require_nothing_shown(found, "--runtime-env-json")
    return found


def _is_of_this_machine(name: str, value: object) -> bool:
    """Whether Ray's client would read a file here for it. `conda` may also be the name of an environment there."""
    if name == "py_modules":
        return not isinstance(value, list | None) or any(not URI.fullmatch(str(one)) for one in value or ())
    packages = value.get("packages") if isinstance(value, Mapping) else value
    return isinstance(packages, str) and (name != "conda" or packages.endswith((".yml", ".yaml")))


def require_nothing_shown(env: Mapping[str, Any], where: str) -> None:  # Any: JSON values
    """Raises ConfigurationError for a runtime environment with what seems to be a secret, at whatever depth."""
    if shown := dict.fromkeys(_shown("", env)):
        raise ConfigurationError(
            f"{where}: {', '.join(shown)} would be seen by all who reach the job server; variables go into "
            "--secrets-file, the login of a package index into pip.conf on the nodes"
        )


def _shown(name: str, value: object) -> Iterable[str]:
    """The names under which secrets seem to be."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _shown(str(key), one)
    elif isinstance(value, list):
        for one in value:
            yield from _shown(name, one)
    else:
        yield from shown_secrets({name: value})


def runtime_environment(
    own: Mapping[str, Any], *, working_dir: str, drain_deadline_s: float, sent: str | None, url_file: str | None
) -> dict[str, Any]:  # Any: JSON values
    """The job's runtime environment: the user's, and ours around it. `sent`: where the secrets were left for the job;
    `url_file`: the file with the broker's URL on the machine where it will run.
    """
    ours = {JOB_STOP_WAIT: str(stop_wait_s(drain_deadline_s))} | INLINE_VARIABLES | dict(own.get("env_vars", {}))
    if sent is not None:
        ours[SENT_VARIABLE] = sent
    if url_file is not None:
        ours |= file_alone(url_file)
    return dict(own) | {"working_dir": working_dir, "env_vars": ours}


def require_absolute(results: str) -> None:
    """Raises ConfigurationError for a results file whose place a job would choose: a folder that Ray deletes."""
    if not PurePosixPath(results).is_absolute():
        raise ConfigurationError(
            f"--results {results}: must be an absolute path on the machine where the job runs (the head), such as "
            "/data/results.duckdb; Ray deletes a job's own folder"
        )
