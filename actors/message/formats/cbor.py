"""CBOR (RFC 8949), by the package cbor2, where that is installed. Pure."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from rabbitray.actors.errors import ConfigurationError, DecodeError
from rabbitray.actors.message.formats.cbor_scan import require_harmless
from rabbitray.actors.message.message import Message
from rabbitray.actors.message.wire import MessageLimits

CBOR: Final = "application/cbor"
_PACKAGE: Final = "cbor2"


def read_cbor(body: bytes, message: Message, limits: MessageLimits) -> Any:  # Any: whatever a producer wrote
    """The one document in the body; DecodeError where it is damaged, has a tail, or is over the limits."""
    loads = _loads()
    require_harmless(body, limits)
    try:
        return loads(body)
    except RecursionError:
        raise DecodeError("too_deep", "CBOR nested beyond any reason") from None
    except Exception as error:  # noqa: BLE001 # its own, and those of what it makes: dates, decimals, UUIDs
        raise DecodeError("bad_cbor", f"{type(error).__name__}: {error}"[:200]) from None


def require_installed() -> None:
    """Raises ConfigurationError without the package."""
    if find_spec(_PACKAGE) is None:
        raise ConfigurationError(f"the decoder cbor needs the package {_PACKAGE}, which is not installed; install it")


def _loads() -> Any:  # Any: a function of a package that may be missing
    try:
        return import_module(_PACKAGE).loads
    except ImportError:
        raise DecodeError("missing_package", f"CBOR needs the package {_PACKAGE}, not installed here") from None
