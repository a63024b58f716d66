"""Whether a Ray answers and takes this process. Left out where this Ray has no way to ask."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from ray.exceptions import RayError

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.remote.compat import inside


def require_gcs(address: str, *, within_s: float) -> None:
    """Raises ConfigurationError where the Ray at this address ("auto": of this machine) does not answer in time, or
    refuses this process's token: `ray.init` tries both again and again, for 20 s and longer, and does not say why.
    """
    if "://" in address:  # Ray's client, not the GCS
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
        inside.connect_to_gcs(address)
        found.set_result(None)
    except Exception as error:  # noqa: BLE001 # whatever it is, it is the asker's
        found.set_exception(error)


def _advice() -> str:
    """What to do, with the addresses of this machine's Rays where there are several."""
    rays = sorted(inside.gcs_addresses_here())
    here = f" (here run {', '.join(rays)})" if len(rays) > 1 else ""
    return (
        f"set RAY_ADDRESS to the Ray of the pool{here}, and RAY_AUTH_MODE=token with RAY_AUTH_TOKEN_PATH (or "
        "RAY_AUTH_TOKEN) to its token"
    )
