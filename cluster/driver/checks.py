"""What is checked before anything is consumed: versions, and relations between settings and this machine. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qs, urlsplit

from packaging.specifiers import SpecifierSet

from rabbitray.actors.rabbitmq.addresses import NO_VERIFY
from rabbitray.actors.secret import several
from rabbitray.cluster.settings import Loaded, Settings

Level = Literal["refuse", "warn"]

QUORUM_PREFETCH_CAP: Final = 2000
NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "ceph",
        "fuse.sshfs",
        "fuse.s3fs",
        "glusterfs",
        "lustre",
        "afs",
    }
    | {"fuse.glusterfs", "fuse.gcsfuse", "fuse.goofys", "beegfs", "gpfs", "ocfs2", "gfs2"}
)
FLOORS: Final[Mapping[str, str]] = {
    "pamqp": ">=4.0.1",
    "aio-pika": ">=10.2.1,<11",
    "duckdb": ">=2.0",
    "ray": ">=2.57,<2.61",
}
"""Package -> the versions that will do, as in pyproject.toml."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One relation that does not hold: what, with both values, and what to do, in one line."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the checks need to know beside the settings; None or the default where it is unknown.

    `job_stop_wait_s`: None outside of a Ray job. `memory_bytes`: of this machine. `cpus`: of the cluster.
    `file_system`: type of the results file's. `sync_handler`: the handler is no async function. Of a Ray job:
    `shown_secrets`, variables of its runtime environment that seem to hold some; `results_go`, whether the results file
    lies in the folder that Ray deletes.
    """

    job_stop_wait_s: float | None = None
    cpus: float | None = None
    memory_bytes: int | None = None
    file_system: str | None = None
    sync_handler: bool = False
    shown_secrets: tuple[str, ...] = ()
    results_go: bool = False


def check_settings(settings: Settings, facts: Facts) -> list[Finding]:
    """All findings, those that refuse first; an empty list when everything holds."""
    checks: tuple[Callable[[Settings, Facts], Iterable[Finding]], ...] = (
        _sizes,
        _keys,
        _run,
        _waiting_work,
        _window_and_batch,
        _window_bytes,
        _heartbeat,
        _retries,
        _drain,
        _shown_secrets,
        _job_folder,
        _broker_urls,
        _capacity,
        _file_system,
    )
    findings = [finding for check in checks for finding in check(settings, facts)]
    return sorted(findings, key=lambda finding: finding.level)


def check_versions(installed: Mapping[str, str | None]) -> list[Finding]:
    """Refuses packages whose known defects lose data; `installed` maps package to version or None."""
    findings = []
    for package, wanted in FLOORS.items():
        found = installed.get(package)
        if found is None or not SpecifierSet(wanted).contains(found, prereleases=True):
            state = "missing" if found is None else found
            findings.append(
                _refuse(f"package {package} is {state}, {wanted} is needed; install rabbitray's requirements again")
            )
    return findings


def installed_versions() -> dict[str, str | None]:
    """Versions of the packages that `check_versions` looks at, in this environment."""
    return {package: _version(package) for package in FLOORS}


def file_system_of(path: str, mounts: Iterable[tuple[str, str]]) -> str | None:
    """Type of the file system that holds the absolute `path`, from (mount point, type) pairs."""
    holding = [(point, kind) for point, kind in mounts if _below(path, point)]
    return max(holding, key=lambda mount: len(mount[0]))[1] if holding else None


def _sizes(settings: Settings, facts: Facts) -> Iterable[Finding]:
    low, first = settings.min_size, settings.initial_size
    high = settings.max_size
    if low > first or (high is not None and first > high):
        yield _refuse(f"min_size {low} <= initial_size {first} <= max_size {high or 'auto'} must hold; change one")
    if settings.prefetch_min > settings.prefetch_max:
        yield _refuse(f"PREFETCH_MIN {settings.prefetch_min} is above PREFETCH_MAX {settings.prefetch_max}")


def _keys(settings: Settings, facts: Facts) -> Iterable[Finding]:
    if settings.key == "none" and settings.missing_id == "reject":
        yield _refuse("key none with missing_id reject makes each message a dead letter; change one")


def _run(settings: Settings, facts: Facts) -> Iterable[Finding]:
    """A job that says how far it is may run for longer than one that says nothing. Whether the broker leaves it that
    time is looked at where the broker is known, see ConsumerTimeout.
    """
    most_s = settings.max_run_s
    if most_s is not None and most_s < settings.handler_timeout_s:
        yield _refuse(f"max_run_s {most_s:g} is below handler_timeout_s {settings.handler_timeout_s:g}; change one")


def _waiting_work(settings: Settings, facts: Facts) -> Iterable[Finding]:
    """A sync handler works a batch one job after the other, and batches wait behind each other."""
    if not facts.sync_handler or settings.batch_size == "adaptive":
        return
    jobs = settings.batch_size * settings.max_tasks_in_flight_per_actor
    longest_s = settings.handler_timeout_s * jobs
    if longest_s >= settings.hold_s:
        yield _warn(
            f"a sync handler at handler_timeout_s {settings.handler_timeout_s:g} works {jobs} jobs in "
            f"{longest_s:g} s, above max_hold_s {settings.hold_s:g}; lower QUEUE_BATCH_SIZE"
        )


def _window_and_batch(settings: Settings, facts: Facts) -> Iterable[Finding]:
    window, batch = settings.prefetch_count, settings.batch_size
    if window != "adaptive" and batch != "adaptive":
        wanted = batch * (settings.max_size or 1) * (settings.max_tasks_in_flight_per_actor + 1)
        if window < batch:
            yield _refuse(f"RABBITMQ_PREFETCH_COUNT {window} is below QUEUE_BATCH_SIZE {batch}: no batch would fill")
        elif window < wanted:
            yield _warn(
                f"RABBITMQ_PREFETCH_COUNT {window} does not feed {settings.max_size or 'auto'} workers "
                f"with batches of {batch}, which become smaller; {wanted} would"
            )
    if settings.queue_type == "quorum" and settings.largest_window > QUORUM_PREFETCH_CAP:
        yield _warn(f"a window of {settings.largest_window} is above {QUORUM_PREFETCH_CAP}, the cap of quorum queues")


def _window_bytes(settings: Settings, facts: Facts) -> Iterable[Finding]:
    """RabbitMQ bounds messages, not bytes: an adaptive window follows their size, a fixed one cannot."""
    budget, largest = settings.window_max_bytes, settings.max_message_bytes
    if largest > budget:
        yield _refuse(f"max_message_bytes {largest} is above window_max_bytes {budget}: one message would not fit")
    if settings.prefetch_count == "adaptive":
        return
    worst = settings.prefetch_count * largest
    text = f"RABBITMQ_PREFETCH_COUNT {settings.prefetch_count} x max_message_bytes {largest} is {worst} bytes"
    if facts.memory_bytes is not None and worst > facts.memory_bytes:
        yield _refuse(f"{text}, above this machine's memory {facts.memory_bytes}; lower one of them")
    elif worst > budget:
        yield _warn(f"{text}, above window_max_bytes {budget}, which a fixed window cannot keep")


def _heartbeat(settings: Settings, facts: Facts) -> Iterable[Finding]:
    heartbeat = settings.heartbeat_s
    if not 5 <= heartbeat <= 20:
        yield _warn(
            f"RABBITMQ_HEARTBEAT {heartbeat} is outside RabbitMQ's advice of 5 to 20 s: a dead peer is "
            f"noticed after {3 * (heartbeat + 1)} s"
        )


def _retries(settings: Settings, facts: Facts) -> Iterable[Finding]:
    if settings.retry_delay_ms > settings.retry_max_delay_ms:
        low, high = settings.retry_delay_ms, settings.retry_max_delay_ms
        yield _refuse(f"RETRY_DELAY {low} is above RETRY_MAX_DELAY {high} (ms); change one")


def _drain(settings: Settings, facts: Facts) -> Iterable[Finding]:
    wait_s = facts.job_stop_wait_s
    if wait_s is None or settings.drain_deadline_s < wait_s:
        return
    seconds = int(settings.drain_deadline_s) + 30
    yield _warn(
        f"`ray job stop` kills after RAY_JOB_STOP_WAIT_TIME_S {wait_s:g} s, drain_deadline_s is "
        f"{settings.drain_deadline_s:g}; submit with `rabbitray submit`, or with --runtime-env-json "
        f'\'{{"env_vars":{{"RAY_JOB_STOP_WAIT_TIME_S":"{seconds}"}}}}\''
    )


def _shown_secrets(settings: Settings, facts: Facts) -> Iterable[Finding]:
    if facts.shown_secrets:
        yield _warn(
            f"{', '.join(facts.shown_secrets)} in this job's runtime environment: whoever reaches the job server reads "
            "it; submit with `rabbitray submit --secrets-file`, or name a file on the head (RABBITMQ_URL_FILE)"
        )


def _job_folder(settings: Settings, facts: Facts) -> Iterable[Finding]:
    if facts.results_go:
        yield _warn(
            f"results file {settings.results} is in this job's own folder, which Ray deletes some time after its end, "
            "with all results; give --results an absolute path on this machine's disk"
        )


def _broker_urls(settings: Settings, facts: Facts) -> Iterable[Finding]:
    for one in several(settings.rabbitmq_url):
        yield from _broker_url(urlsplit(one.reveal()), settings)


def _broker_url(url: SplitResult, settings: Settings) -> Iterable[Finding]:
    query = parse_qs(url.query, keep_blank_values=True)
    host = url.hostname or ""
    off = any(value != "0" for value in query.get(NO_VERIFY, ()))  # an empty value, too, switches aiormq's check off
    if off and not settings.insecure_skip_verify:
        yield _refuse(f"no_verify_ssl in the URL of {host} switches TLS checks off; use --insecure-skip-verify")
    heartbeat = query.get("heartbeat", [None])[0]
    if heartbeat is not None and not (heartbeat.isdecimal() and 1 <= int(heartbeat) < 65535):
        yield _refuse(
            f"heartbeat={heartbeat[:20]!r} in the URL of {host} would switch heartbeats off; "
            "remove it and use RABBITMQ_HEARTBEAT"
        )
    if not is_loopback(host):
        yield from _remote(url, host)


def _remote(url: SplitResult, host: str) -> Iterable[Finding]:
    if url.scheme == "amqp":
        yield _warn(f"amqp:// to {host} sends password and messages in clear; use amqps://")
    if url.username in (None, "guest"):
        yield _warn(f"user guest logs in from the broker's own machine only, not to {host}; use another user")


def _capacity(settings: Settings, facts: Facts) -> Iterable[Finding]:
    if facts.cpus is None:
        return
    workers = f"min_size {settings.min_size} x worker_num_cpus {settings.worker_num_cpus:g}"
    need = settings.min_size * settings.worker_num_cpus
    if need > facts.cpus:
        yield _warn(f"{workers} needs {need:g}, the cluster has {facts.cpus:g} CPUs: some workers stay pending")
    elif settings.cpus_for_tasks and need + settings.cpus_for_tasks > facts.cpus:
        yield _refuse(
            f"{workers} and cpus_for_tasks {settings.cpus_for_tasks:g} need {need + settings.cpus_for_tasks:g} CPUs, "
            f"the cluster has {facts.cpus:g}: handlers would wait for their tasks for ever; lower one, or add a node"
        )


def _file_system(settings: Settings, facts: Facts) -> Iterable[Finding]:
    if facts.file_system in NETWORK_FILE_SYSTEMS:
        yield _refuse(
            f"results file {settings.results} is on {facts.file_system}, where locks are unreliable; use a local disk"
        )


def is_loopback(host: str) -> bool:
    """Whether traffic to `host` stays on this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _refuse(text: str) -> Finding:
    return Finding(level="refuse", text=text)


def _warn(text: str) -> Finding:
    return Finding(level="warn", text=text)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _below(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def facts(loaded: Loaded, *, cpus: float | None = None, sync_handler: bool = False) -> Facts:
    """What the start-up checks need to know of this machine and this job."""
    return Facts(
        job_stop_wait_s=loaded.job_stop_wait_s,
        cpus=cpus,
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        file_system=file_system_of(str(loaded.settings.results.absolute()), _mounts()),
        sync_handler=sync_handler,
        shown_secrets=loaded.shown_secrets,
        results_go=loaded.results_go,
    )


def _mounts() -> list[tuple[str, str]]:
    """(mount point, type of file system); none where the system does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [(parts[1], parts[2]) for line in lines if len(parts := line.split()) > 2]
