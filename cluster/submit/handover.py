"""Secrets from `submit` to its job, past everything that shows them.

Ray shows a job's entrypoint, metadata and variables to whoever reaches its job server. So the secrets go another way:
into the GCS, as a package under a name of chance, and that name goes with the job. The job's driver takes them out at
its start, which deletes them there, and keeps them in memory: no file, no argument, no actor's environment in Ray's
lists. One that no driver takes is deleted by Ray after 10 minutes. Whoever has Ray's token, or reaches a
cluster that asks for none, could take them meanwhile, and could as well run code.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.remote.compat import inside
from rabbitray.actors.secret import Secret
from rabbitray.cluster.settings import Loaded, job, load_here
from rabbitray.cluster.settings.kinds import PREFIX
from rabbitray.cluster.submit.variables import broker_names

TAKEN_WITHIN_S: Final = 15.0


def sealed(variables: Mapping[str, Secret]) -> tuple[str, bytes]:
    """Name and content of the package for these variables."""
    content = json.dumps({name: value.reveal() for name, value in variables.items()})
    return f"rabbitray_sent_{secrets.token_hex(16)}.zip", content.encode()


def load_in_job(cli: Mapping[str, object]) -> Loaded:
    """The settings of this process, with what was sent with its job, if it is one."""
    handed = take_sent()
    return replace(load_here(cli), handed=handed)


def take_sent() -> dict[str, Secret]:
    """What was sent with this job, once: it becomes the environment of this process, and what of it is for the handler
    is returned. Nothing where nothing was sent. Raises ConfigurationError where it is gone.
    """
    name = job.sent_name()
    if name is None:
        return {}
    try:
        content = inside.take_package(job.ray_address_here() or "auto", f"gcs://{name}", within_s=TAKEN_WITHIN_S)
    except Exception as error:
        raise ConfigurationError(f"what was sent with this job cannot be taken: {error}; submit it again") from error
    if content is None:
        raise ConfigurationError(
            "what was sent with this job is gone: it is taken once, and kept for 10 minutes at most; submit it again"
        )
    found = {name: Secret(value) for name, value in json.loads(content).items()}
    job.add_to_environment(found)
    return for_handler(found)


def for_handler(variables: Mapping[str, Secret]) -> dict[str, Secret]:
    """Those that are neither the broker's nor a collector's nor settings: a handler may need them, in each worker."""
    ours = broker_names()
    return {
        name: value for name, value in variables.items() if name not in ours and not name.startswith((PREFIX, "OTEL_"))
    }
