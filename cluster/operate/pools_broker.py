"""The broker that a command works at: the one that this machine knows of, else that of the running pool."""

from __future__ import annotations

from rabbitray.actors.secret import Secret
from rabbitray.cluster.operate.local_usage import raylet_here
from rabbitray.cluster.settings import Loaded


def with_broker(loaded: Loaded) -> tuple[Loaded, str]:
    """The settings with the URLs to connect to, and a line for people about where these are from; empty where this
    machine's own settings name them, or no Ray is here that could be asked.

    Raises RabbitrayError where a pool of that name runs and does not answer.
    """
    if loaded.is_set("rabbitmq_url") or (loaded.settings.ray_address is None and not raylet_here()):
        return loaded, ""
    from rabbitray.cluster.operate.running_pool import NotRunningError, running  # Ray takes a second to import

    try:
        with running(loaded.settings) as pool:
            urls: Secret = pool.ask("autoscaler", "broker")
    except NotRunningError as nothing:
        return loaded, f"RABBITMQ_URL is not set here, so the default address is tried; {nothing}"
    return loaded.asked(rabbitmq_url=urls), f"at the broker of the running pool {loaded.settings.pool!r}"
