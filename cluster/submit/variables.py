"""What a job is given besides its settings: a file of `NAME=VALUE` lines, and the broker's URL of this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.printable import printable
from rabbitray.actors.rabbitmq import addresses
from rabbitray.actors.secret import Secret, several
from rabbitray.cluster.driver.checks import is_loopback
from rabbitray.cluster.settings import Loaded, Settings
from rabbitray.cluster.settings.job import names_collector
from rabbitray.cluster.settings.kinds import PREFIX, kind_of

MOST_BYTES: Final = 64 * 1024
_LINE: Final = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_TAKEN: Final = ("RAY_", "PYTHON", "LD_")


def _names(field: str) -> tuple[str, ...]:
    """The variables that set it, the one that wins first."""
    return kind_of(Settings.model_fields[field]).environ_names(field)


def broker_names() -> frozenset[str]:
    """The variables that say where the broker is."""
    return frozenset(_names("rabbitmq_url") + _names("rabbitmq_url_file"))


def file_alone(path: str) -> dict[str, str]:
    """The variables by which a process takes the broker's URL from this file, whatever its machine says: a URL would
    beat a file, and an empty variable counts as none.
    """
    return dict.fromkeys(_names("rabbitmq_url"), "") | {_names("rabbitmq_url_file")[0]: path}


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
    """These variables, and the broker's URL as this machine has it, where they do not say one; under the names that
    win over those of the machine where the job runs.
    """
    own, *others = _names("rabbitmq_url")
    files = [given[name] for name in _names("rabbitmq_url_file") if name in given]
    more = {name: value for name, value in given.items() if name not in broker_names()}
    said = next((given[name] for name in (own, *others) if name in given), None)
    if files and said is None:
        return {name: Secret(value) for name, value in file_alone(files[0].reveal()).items()} | more
    if said is None and loaded.is_set("rabbitmq_url"):
        said = Secret(loaded.settings.rabbitmq_url)
    return more if said is None else {own: said} | more


def require_one_broker(given: Mapping[str, Secret], url_file: str | None) -> None:
    """Raises ConfigurationError where variables and a file on the head both say where the broker is."""
    if url_file is not None and (twice := sorted(given.keys() & broker_names())):
        raise ConfigurationError(
            f"--secrets-file has {', '.join(twice)}, and --url-file-on-head names the broker, too; leave one out"
        )


def collector_stays(here: Iterable[str], sent: Iterable[str]) -> str | None:
    """A note where this shell names a collector, in the variables `here`, and none of those that are `sent` does."""
    named = list(here)
    if not named or any(names_collector(name) for name in sent):
        return None
    return f"the job sends nothing to this shell's collector ({', '.join(named)}); put these into --secrets-file"


def names_this_machine(variables: Mapping[str, Secret]) -> str | None:
    """The host of a broker's URL that is another one on each machine, such as `localhost`."""
    urls = [variables[name] for name in _names("rabbitmq_url") if name in variables and variables[name].reveal()]
    hosts = [addresses.host_and_port(one)[0] for url in urls for one in several(url)]
    return next((host for host in hosts if is_loopback(host)), None)
