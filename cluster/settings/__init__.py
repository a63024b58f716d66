"""The one Settings, and the only reader of the environment.

`model` holds every setting with its default, `kinds` how one is declared, `loading` puts the command line
over the environment over rabbitray.toml over the defaults, `showing` prints them.
"""

from __future__ import annotations

from rabbitray.cluster.settings.loading import Loaded, load, load_here
from rabbitray.cluster.settings.model import Settings, safe_name
from rabbitray.cluster.settings.showing import SettingRow, configuration_markdown, describe

__all__ = [
    "Loaded",
    "SettingRow",
    "Settings",
    "configuration_markdown",
    "describe",
    "load",
    "load_here",
    "safe_name",
]
