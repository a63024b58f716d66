"""The job server that an address means: whatever `ray.init`, `ray job submit` and people call a Ray by."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Final
from urllib.parse import urlsplit

import psutil

from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.remote.compat import inside
from rabbitray.cluster.driver.checks import is_loopback
from rabbitray.cluster.settings.job import JobServerAccess
from rabbitray.cluster.submit.server import JobServer

FOUND_WITHIN_S: Final = 5.0
PORT: Final = 8265
HERE: Final = f"http://127.0.0.1:{PORT}"
FORMS: Final = "http://HOST:8265 (the dashboard's), HOST:8265, HOST:6379, ray://HOST:10001, or auto"
_PLACE: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/@\[\]]+)(:(?P<port>\d{1,5}))?")


def candidates(address: str | None) -> tuple[str, ...]:
    """URLs that an address may mean, the likeliest first. Raises ConfigurationError for one that is none. Pure."""
    if address is None or address == "auto":
        return (HERE,)
    if address.startswith(("http://", "https://")):
        return (_url(address),)
    match = _PLACE.fullmatch(address.removeprefix("ray://"))
    if match is None or address == "local" or not 0 < int(match["port"] or PORT) < 65536:
        raise ConfigurationError(f"--address={address}: must be {FORMS}")
    usual = f"http://{match['host']}:{PORT}"
    if address.startswith("ray://") or match["port"] is None:
        return (usual,)
    return tuple(dict.fromkeys((f"http://{match['host']}:{match['port']}", usual)))


def _url(address: str) -> str:
    try:
        parts = urlsplit(address)
        usable = bool(parts.hostname) and parts.port != 0 and not parts.query and parts.username is None
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"--address={address}: must be {FORMS}")
    return address.partition("#")[0].rstrip("/")  # a browser shows pages of the dashboard behind a #


async def find(address: str | None, access: JobServerAccess, *, within_s: float = FOUND_WITHIN_S) -> str:
    """The URL of the job server, which answers. Raises ConfigurationError, within `within_s`: nothing answers, it
    wants another token, or is none. `address` None: the Ray of this machine, else what is tunnelled to it.
    """
    deadline = time.monotonic() + within_s
    meant = candidates(address)
    local = address in (None, "auto")
    errors = {} if local else await _look(meant[:1], access, within_s)
    if None not in errors.values():
        told = await _told_by_gcs(address or "auto", deadline - time.monotonic())
        more = [url for url in ((told,) if told else ()) + meant if url not in errors]
        errors |= await _look(more, access, max(1.0, deadline - time.monotonic()))
    right = next((url for url, error in errors.items() if error is None), None)
    if right is not None:
        return right
    refusal = next((error for error in errors.values() if isinstance(error, ConfigurationError)), None)
    raise refusal or ConfigurationError(_nothing(address, errors, within_s))


async def _look(urls: Sequence[str], access: JobServerAccess, within_s: float) -> dict[str, RabbitrayError | None]:
    """What is wrong with each of them, in their order; None where a job server answers."""
    found = await asyncio.gather(*(_answers(url, access, within_s) for url in urls))
    return dict(zip(urls, found, strict=True))


def _nothing(address: str | None, tried: Iterable[str], within_s: float) -> str:
    asked = f"--address={address}: " if address else ""
    here = sorted(inside.gcs_addresses_here()) if address in (None, "auto") else []
    if here:
        asked = f"the Ray here ({', '.join(here)}) has no dashboard, or wants another token (RAY_AUTH_TOKEN_PATH); "
    return (
        f"{asked}no job server of Ray answers at {' or '.join(tried)} (tried for at most {within_s:g} s); give "
        "--address http://HOST:8265, the dashboard's, which `ray dashboard CLUSTER.yaml` tunnels to localhost:8265"
    )


async def _answers(url: str, access: JobServerAccess, within_s: float) -> RabbitrayError | None:
    """None where a job server is there; else what is wrong."""
    try:
        async with JobServer(url, access) as server:
            await server.ray_version(within_s=within_s)
    except RabbitrayError as error:
        return error
    return None


async def _told_by_gcs(address: str, within_s: float) -> str | None:
    """The dashboard of the Ray whose GCS is at this address; None where there is none, or it does not say in time.

    Its own word for it may be a loopback address, which means another machine here than there.
    """
    if "://" in address or not await _may_be_gcs(address, within_s):
        return None
    asked: Future[str | None] = Future()
    threading.Thread(target=_ask, args=(address, within_s, asked), name="ask-gcs", daemon=True).start()
    try:
        found = await asyncio.wait_for(asyncio.wrap_future(asked), within_s)
    except TimeoutError:
        return None
    return f"http://{found}" if found and _same_machine(address, found) else None


async def _may_be_gcs(address: str, within_s: float) -> bool:
    """Whether anything listens there: else Ray's client would try for long, and say so on the terminal."""
    if address == "auto":
        return bool(inside.gcs_addresses_here())
    host, _, port = address.rpartition(":")
    if not host or within_s <= 0:
        return False
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host.strip("[]"), int(port)), within_s)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _ask(address: str, within_s: float, asked: Future[str | None]) -> None:
    try:
        found = inside.dashboard_of(address, within_s=within_s)
    except Exception:  # noqa: BLE001 # whatever it is, it is no GCS that tells: the URLs are tried
        found = None
    if asked.set_running_or_notify_cancel():
        asked.set_result(found)


def _same_machine(address: str, dashboard: str) -> bool:
    """Whether the dashboard's address, as its own Ray says it, means the same here."""
    host = dashboard.rpartition(":")[0].strip("[]")
    return not is_loopback(host) or address == "auto" or _here(address.rpartition(":")[0].strip("[]"))


def _here(host: str) -> bool:
    own = {one.address for some in psutil.net_if_addrs().values() for one in some}
    return is_loopback(host) or host in own
