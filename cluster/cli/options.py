"""Command-line options made of the settings: one declaration, one help text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from pydantic_core import PydanticUndefined

from rabbitray.actors.secret import Redactor
from rabbitray.cluster.cli.errors import errors_told
from rabbitray.cluster.cli.terminal import prepare, tell
from rabbitray.cluster.settings import Loaded, Settings, load_here
from rabbitray.cluster.settings.kinds import allowed_values
from rabbitray.cluster.settings.showing import shown

F = TypeVar("F", bound=Callable[..., Any])  # Any: a click callback

BROKER = ("queue", "heartbeat_s", "connect_timeout_s", "insecure_skip_verify")
REACH = ("queue", "pool", "ray_address", "ray_namespace")
PUBLISHING = (
    "queue_type",
    "dead_letter_exchange",
    "wire_format",
    "publisher_pool_size",
    "publisher_confirm_timeout_ms",
    "publisher_max_batch_size",
    "max_message_bytes",
)
LOGS = ("log_format", "log_level")
ON_HOST = click.option(
    "--host", metavar="NAME", help="Only workers whose machine has this in its name, or this address."
)
ALL = tuple(name for name in Settings.model_fields if not name.startswith(("rabbitmq_url", "failpoint")))


Load = Callable[[Mapping[str, object]], Loaded]
"""Options -> settings, with all else that says what they are."""


def with_settings(*names: str, load: Load = load_here) -> Callable[[F], F]:
    """Adds an option for each named setting; the command gets `loaded` first, with everything applied by `load`.

    What it raises is told without the secrets of these settings.
    Values are checked by the settings themselves, so a mistake reads the same wherever it was made.
    """

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def run(**given: Any) -> Any:  # Any: click's parameters
            own = {name: given.pop(name) for name in names}
            loaded = load(own)
            for notice in loaded.notices:
                tell(f"note: {notice}", err=True)
            redact = Redactor(*loaded.secrets)
            prepare(redact)
            with errors_told(redact):
                return command(loaded, **given)

        decorated: Any = run  # Any: click adds its parameters to the function
        for name in reversed(names):
            decorated = _option(name)(decorated)
        return decorated  # type: ignore[no-any-return] # the decorated command

    return decorate


def _option(name: str) -> Callable[[F], F]:
    field = Settings.model_fields[name]
    default = "" if field.default is PydanticUndefined else shown(name, field.default)
    text = f"{field.description} [{default}]" if default else field.description
    flag = "--" + name.replace("_", "-")
    if field.annotation is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=text)
    return click.option(flag, name, default=None, metavar=_metavar(name), help=text)


def _metavar(name: str) -> str:
    words = allowed_values(Settings.model_fields[name])
    return "NUMBER" if "number" in words else "SIZE" if "size" in words else "WORD" if "one of" in words else "TEXT"
