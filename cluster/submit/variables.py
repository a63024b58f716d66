"""What a job is given besides its settings: a file of `NAME=VALUE` lines, and the broker's URL of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.printable import printable
from rabbitray.actors.rabbitmq import addresses
from rabbitray.actors.secret import Secret, several
from rabbitray.cluster.driver.checks import is_loopback
from rabbitray.cluster.settings import Loaded, Settings
from rabbitray.cluster.settings.kinds import PREFIX, kind_of

MOST_BYTES: Final = 64 * 1024
_LINE: Final = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_TAKEN: Final = ("RAY_", "PYTHON", "LD_")
URL: Final = "RABBITMQ_URL"


def broker_names() -> frozenset[str]:
    """The variables that say where the broker is."""
    fields = Settings.model_fields
    return frozenset(
        name for field in ("rabbitmq_url", "rabbitmq_url_file") for name in kind_of(fields[field]).environ_names(field)
    )


def read_variables(file: Path) -> dict[str, Secret]:
    """The variables of a file: a `NAME=VALUE` in each line, `export` before it or not, quotes around the value or not;
    empty lines and such with `#` in front do not count. Raises ConfigurationError, a line for each mistake, which
    shows no value; so for a file that others can read.
    """
    try:
        text = addresses.read_text(file)
    except ValueError as error:
        raise ConfigurationError(f"--secrets-file {printable(str(file))}: {error}") from None
    if len(text) > MOST_BYTES:
        raise ConfigurationError(f"--secrets-file {printable(str(file))}: is longer than {MOST_BYTES} bytes")
    found: dict[str, Secret] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            wrong = _take(line.strip(), found)
            problems += [f"--secrets-file {printable(str(file))} line {number}: {wrong}"] if wrong else []
    if problems:
        raise ConfigurationError("\n".join(problems))
    return found


def _take(line: str, found: dict[str, Secret]) -> str:
    """Adds one line's variable; says what is wrong with it, if anything is."""
    match = _LINE.fullmatch(line)
    if match is None:
        return "must be NAME=VALUE"
    name, value = match[1], _unquoted(match[2].strip())
    if name in found:
        return f"{name} is there twice"
    if name.startswith(PREFIX) and name not in broker_names():
        return f"{name} is a setting: give it as an option, or as a variable of this shell"
    if name.startswith(_TAKEN) or name == "PATH":
        return f"{name} has no effect in a process that runs: give it in --runtime-env-json, where it is no secret"
    if name in broker_names() and not name.endswith("_FILE"):
        try:
            addresses.checked(Secret(value))
        except ValueError as error:
            return f"{name}: {error}"
    found[name] = Secret(value)
    return ""


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def with_broker(given: Mapping[str, Secret], loaded: Loaded) -> dict[str, Secret]:
    """These variables, and the broker's URL as this machine has it, where they do not say one."""
    if given.keys() & broker_names() or not loaded.is_set("rabbitmq_url"):
        return dict(given)
    return {URL: Secret(loaded.settings.rabbitmq_url), **given}


def names_this_machine(variables: Mapping[str, Secret]) -> str | None:
    """The host of a broker's URL that is another one on each machine, such as `localhost`."""
    urls = [value for name, value in variables.items() if name in broker_names() and not name.endswith("_FILE")]
    hosts = [addresses.host_and_port(one)[0] for url in urls for one in several(url)]
    return next((host for host in hosts if is_loopback(host)), None)
