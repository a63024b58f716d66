"""Which rabbitray this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of


def version() -> str:
    """Its version, where it is installed."""
    try:
        return version_of("rabbitray")
    except PackageNotFoundError:  # `python -m rabbitray` in a checkout
        return "unknown (run from a checkout)"
