"""The steps of `rabbitray submit`, in order."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from packaging.specifiers import SpecifierSet

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.remote.compat import inside
from rabbitray.actors.secret import Secret
from rabbitray.cluster.driver.checks import FLOORS, Facts, check_settings, is_loopback
from rabbitray.cluster.settings import Loaded
from rabbitray.cluster.settings.job import JOB_STOP_WAIT, JobServerAccess
from rabbitray.cluster.submit import folder as folders
from rabbitray.cluster.submit import request
from rabbitray.cluster.submit.address import find
from rabbitray.cluster.submit.folder import Folder
from rabbitray.cluster.submit.follow import (
    INTERRUPTED,
    End,
    Interrupts,
    Say,
    follow,
    interrupted,
    left,
    stop_job,
    ways_on,
)
from rabbitray.cluster.submit.handover import sealed
from rabbitray.cluster.submit.server import NO_AGENT, JobServer, NoAnswerError, RefusedError
from rabbitray.cluster.submit.variables import broker_names, names_this_machine

AGENT_WITHIN_S: Final = 90.0
AGAIN_AFTER_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A job that may be submitted. `variables`: secrets that go with it; `run_options`: of `rabbitray run`, beside its
    settings.
    """

    loaded: Loaded
    folder: Folder
    variables: Mapping[str, Secret]
    url_file: str | None
    own_environment: Mapping[str, Any]  # Any: JSON values
    python: str
    run_options: tuple[str, ...]
    submission_id: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """What is done once the job runs. `show`: a line of its log; `say`: a line of ours."""

    wait: bool
    stop_on_interrupt: bool
    show: Say
    say: Say


def check(loaded: Loaded, folder: Folder, *, own_environment: Mapping[str, Any]) -> list[str]:
    """Raises ConfigurationError, a line each, for all that can be known to be wrong here; returns notes."""
    settings = loaded.settings
    if settings.handler is None:
        raise ConfigurationError("no handler: give --handler module:attribute, e.g. mypackage.jobs:handle")
    request.require_absolute(str(settings.results))
    request.require_nothing_shown(json.loads(settings.worker_runtime_env or "{}"), "worker_runtime_env")
    waits = own_environment.get("env_vars", {}).get(JOB_STOP_WAIT)
    wait_s = float(waits) if str(waits).isdecimal() else float(request.stop_wait_s(settings.drain_deadline_s))
    findings = check_settings(settings, Facts(job_stop_wait_s=wait_s))
    if refusals := [finding.text for finding in findings if finding.level == "refuse"]:
        raise ConfigurationError("\n".join(refusals))
    folders.require_fitting(folder, folders.MOST_BYTES)
    note = folders.require_handler(folder, settings.handler)
    return [finding.text for finding in findings] + ([note] if note else [])


async def submit(plan: Plan, address: str | None, access: JobServerAccess, following: Following) -> End:
    """Finds the job server, hands over folder and secrets, starts the job and follows it to its end.

    Raises ConfigurationError before anything was uploaded: no job server, another Ray, a pool that runs, a folder that
    is too large once it is packed.
    """
    url = await find(address, access)
    async with JobServer(url, access) as server:
        await _require_ray(server)
        await _require_free(server, plan)
        for note in _notes(plan, url):
            following.say(f"note: {note}")
        following.say(f"uploading {folders.told(plan.folder)} to {url}")
        asked = await _handed_over(server, plan)
        with Interrupts() as interrupts:
            starting = asyncio.ensure_future(_start(server, asked, following.say))
            if await interrupted(starting, interrupts):
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                return await _left_at_start(server, plan, following)
            await starting
            following.say(f"job {plan.submission_id} is submitted; {ways_on(url, plan.submission_id)}")
            if not following.wait:
                return End(code=0, text="", status="PENDING")
            return await follow(
                server,
                plan.submission_id,
                interrupts,
                stop=following.stop_on_interrupt,
                show=following.show,
                say=following.say,
            )


async def _left_at_start(server: JobServer, plan: Plan, following: Following) -> End:
    """A Ctrl-C while the job was asked for: it is there or not, and may come yet."""
    name = plan.submission_id
    if await server.job(name) is None:
        text = f"job {name} is not there; if it starts all the same, {ways_on(server.url, name)}"
        return End(code=INTERRUPTED, text=text, status="NONE")
    asked = following.stop_on_interrupt and await stop_job(server, name, following.say)
    return left(server.url, name, stops=asked)


async def _require_ray(server: JobServer) -> None:
    found = await server.ray_version()
    if not SpecifierSet(FLOORS["ray"]).contains(found, prereleases=True):
        raise ConfigurationError(f"the cluster at {server.url} runs Ray {found}, {FLOORS['ray']} is needed")


async def _require_free(server: JobServer, plan: Plan) -> None:
    """Of two jobs with one pool the second would end after its start, and of two with one id Ray refuses it."""
    settings = plan.loaded.settings
    ours = {"app": "rabbitray", "pool": settings.pool, "namespace": settings.ray_namespace}
    for job in await server.jobs():
        if job.submission_id == plan.submission_id:
            raise ConfigurationError(
                f"--submission-id {job.submission_id}: {server.url} has a job of that name already"
            )
        if not job.ended and ours.items() <= job.metadata.items():
            raise ConfigurationError(
                f"pool {settings.pool!r} is worked by job {job.submission_id} ({job.status}); stop that one first, "
                f"`ray job stop --address {server.url} {job.submission_id}`, or give this one another --pool"
            )


def _notes(plan: Plan, url: str) -> list[str]:
    """What may not be meant."""
    found = []
    if not plan.variables.keys() & broker_names() and plan.url_file is None:
        found.append(
            "no broker is named here, so the job takes RABBITMQ_URL or RABBITMQ_URL_FILE of the machine where it runs"
        )
    if (host := names_this_machine(plan.variables)) is not None:
        found.append(f"the broker's address is {host}, which on the cluster is the head itself")
    scheme, _, place = url.partition("://")
    if plan.variables and scheme == "http" and not is_loopback(place.rpartition(":")[0].strip("[]")):
        found.append(
            f"token and secrets go to {url} in clear; use https, a tunnel (`ray dashboard`), or --url-file-on-head"
        )
    return found


async def _handed_over(server: JobServer, plan: Plan) -> dict[str, Any]:  # Any: JSON values
    """Uploads the folder and leaves the secrets for the job; returns what to ask the job server for."""
    name, content = await asyncio.to_thread(folders.archive, plan.folder)
    folders.require_taken(plan.folder, len(content), inside.REQUEST_BYTES)
    await server.put_package(name, content)
    sent = None
    if plan.variables:
        sent, secret = sealed(plan.variables)
        await server.put_package(sent, secret)
    return {
        "entrypoint": request.entrypoint(plan.loaded, python=plan.python, more=plan.run_options),
        "submission_id": plan.submission_id,
        "metadata": request.metadata(plan.loaded, plan.version),
        "runtime_env": request.runtime_environment(
            plan.own_environment,
            working_dir=f"gcs://{name}",
            drain_deadline_s=plan.loaded.settings.drain_deadline_s,
            sent=sent,
            url_file=plan.url_file,
        ),
    }


async def _start(server: JobServer, asked: Mapping[str, Any], say: Say) -> None:
    """Asks for the job, again while the cluster's agent is not up yet. An answer that got lost may be a job that
    runs, and counts as one.
    """
    deadline, told = time.monotonic() + AGENT_WITHIN_S, False
    while True:
        try:
            return await server.submit(asked)
        except NoAnswerError:
            if await server.job(str(asked["submission_id"])) is not None:
                return None
            raise
        except RefusedError as refused:
            if NO_AGENT not in str(refused) or time.monotonic() >= deadline:
                raise
            if not told:
                say("the cluster starts, and takes no jobs yet: it is asked again")
            told = True
            await asyncio.sleep(AGAIN_AFTER_S)


def read_folder(
    working_dir: Path, excludes: tuple[str, ...], access: JobServerAccess, secret_files: Iterable[Path | None]
) -> Folder:
    """The folder that goes along, without these files, also where a link in it leads to one of them."""
    found = folders.look_through(working_dir.absolute(), excludes, gitignore=access.gitignore)
    return found.without(file for file in secret_files if file is not None)
