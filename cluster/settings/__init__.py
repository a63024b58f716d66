"""The one Settings, and the only reader of the environment.

model     every setting with its default, range, unit and help
kinds     how one is declared
derived   defaults that follow from other settings
loading   command line over environment over rabbitray.toml over defaults
job       Ray's job server, and the Ray job that this process may be
private_node  which RabbitMQ a private node runs
showing   `rabbitray config`, and the page of all settings
__main__  writes docs/configuration.md
"""

from __future__ import annotations

from rabbitray.cluster.settings.derived import safe_name
from rabbitray.cluster.settings.loading import Loaded, load, load_here, toml_here
from rabbitray.cluster.settings.model import Settings
from rabbitray.cluster.settings.private_node import private_node
from rabbitray.cluster.settings.showing import SettingRow, configuration_markdown, describe

__all__ = [
    "Loaded",
    "SettingRow",
    "Settings",
    "configuration_markdown",
    "describe",
    "load",
    "load_here",
    "private_node",
    "safe_name",
    "toml_here",
]
