"""Whether a Ray answers and takes this process. It rests on Ray's inside, and is left out where that is gone."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import ray
from ray.exceptions import RayError

from rabbitray.actors.errors import ConfigurationError

try:
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
    from ray._private.services import canonicalize_bootstrap_address, find_gcs_addresses
except ImportError:
    _GCS_CLIENT: Any = None  # no stubs
else:
    _GCS_CLIENT = getattr(ray._raylet, "GcsClient", None)


def require_gcs(address: str, *, within_s: float) -> None:
    """Raises ConfigurationError where the Ray at this address ("auto": of this machine) does not answer in time, or
    refuses this process's token: `ray.init` tries both again and again, for 20 s and longer, and does not say why.
    """
    if _GCS_CLIENT is None or "://" in address:  # Ray's client, not the GCS
        return
    found: Future[None] = Future()
    threading.Thread(target=_ask, args=(address, found), name="ask-gcs", daemon=True).start()
    try:
        found.result(within_s)
    except TimeoutError as late:
        raise ConfigurationError(f"the Ray at {address} gave no answer within {within_s:g} s; {_advice()}") from late
    except ConnectionError as nothing:
        raise ConfigurationError("no Ray runs here; set RAY_ADDRESS to the cluster's address") from nothing
    except RayError as refused:
        why = str(refused).split(". ")[0]
        raise ConfigurationError(f"the Ray at {address} refuses this process ({why}); {_advice()}") from refused


def _ask(address: str, found: Future[None]) -> None:
    try:
        if address == "auto":  # as `ray.init` does it: a local Ray has token auth on by itself
            maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        where = canonicalize_bootstrap_address(address)
        if where is not None:
            _GCS_CLIENT(address=where)
        found.set_result(None)
    except Exception as error:  # noqa: BLE001 # whatever it is, it is the asker's
        found.set_exception(error)


def _advice() -> str:
    """What to do, with the addresses of this machine's Rays where there are several."""
    rays = sorted(find_gcs_addresses())
    here = f" (here run {', '.join(rays)})" if len(rays) > 1 else ""
    return (
        f"set RAY_ADDRESS to the Ray of the pool{here}, and RAY_AUTH_MODE=token with RAY_AUTH_TOKEN_PATH (or "
        "RAY_AUTH_TOKEN) to its token"
    )
