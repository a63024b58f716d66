"""Settings that cannot work together are refused before anything is consumed, and risky ones are named."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from rabbitray.actors.secret import Secret
from rabbitray.cluster.driver.checks import (
    FLOORS,
    Facts,
    check_settings,
    check_versions,
    file_system_of,
    installed_versions,
    is_loopback,
)
from rabbitray.cluster.settings import Settings
from tests.kit.root import ROOT

OTHERS = (("pamqp", "4.0.1"), ("aio-pika", "10.2.1"), ("duckdb", "2.0.0"), ("ray", "2.60.0"))


def texts(level: str, facts: Facts | None = None, **changed: object) -> list[str]:
    settings = Settings.model_validate(changed)
    return [f.text for f in check_settings(settings, facts or Facts()) if f.level == level]


def test_the_defaults_hold_without_a_word() -> None:
    facts = Facts(cpus=2, memory_bytes=4 * 2**30, file_system="ext4", sync_handler=True)
    assert check_settings(Settings(), facts) == []


@pytest.mark.parametrize(
    ("changed", "facts", "words"),
    [
        ({"handler_timeout_s": 300, "max_run_s": 200}, Facts(), ("max_run_s 200", "handler_timeout_s 300")),
        ({"min_size": 3, "initial_size": 2}, Facts(), ("min_size 3", "initial_size 2")),
        ({"initial_size": 5, "max_size": 4}, Facts(), ("initial_size 5", "max_size 4")),
        ({"min_size": 5, "max_size": 4}, Facts(), ("min_size 5", "max_size 4")),
        ({"key": "none", "missing_id": "reject"}, Facts(), ("key none", "missing_id reject")),
        ({"prefetch_min": 60}, Facts(), ("PREFETCH_MIN 60", "PREFETCH_MAX 50")),
        ({"prefetch_count": 9, "batch_size": 10}, Facts(), ("RABBITMQ_PREFETCH_COUNT 9", "QUEUE_BATCH_SIZE 10")),
        ({"max_message_bytes": "65MiB"}, Facts(), ("max_message_bytes", "window_max_bytes")),
        ({"prefetch_count": 100}, Facts(memory_bytes=2**30), ("RABBITMQ_PREFETCH_COUNT 100", "memory")),
        (
            {"min_size": 3, "initial_size": 3, "cpus_for_tasks": 2},
            Facts(cpus=4),
            ("cpus_for_tasks 2", "need 5 CPUs", "has 4"),
        ),
        ({"retry_delay_ms": 9000, "retry_max_delay_ms": 8000}, Facts(), ("RETRY_DELAY 9000", "RETRY_MAX_DELAY 8000")),
        ({"rabbitmq_url": "amqps://h/?no_verify_ssl=1"}, Facts(), ("no_verify_ssl", "--insecure-skip-verify")),
        ({"rabbitmq_url": "amqps://w:x@h/?no_verify_ssl="}, Facts(), ("no_verify_ssl", "--insecure-skip-verify")),
        ({"rabbitmq_url": "amqps://w:x@h/?no_verify_ssl=1&no_verify_ssl=0"}, Facts(), ("no_verify_ssl",)),
        ({"rabbitmq_url": "amqp://localhost/?heartbeat=ten"}, Facts(), ("heartbeat='ten'", "RABBITMQ_HEARTBEAT")),
        ({"rabbitmq_url": "amqp://localhost/?heartbeat=65535"}, Facts(), ("heartbeat='65535'",)),
        ({"rabbitmq_url": "amqp://localhost/?heartbeat=0"}, Facts(), ("heartbeat='0'",)),
        ({}, Facts(file_system="nfs4"), ("results.duckdb", "nfs4")),
    ],
)
def test_what_cannot_work_is_refused_with_both_values(
    changed: dict[str, object], facts: Facts, words: tuple[str, ...]
) -> None:
    (line,) = texts("refuse", facts, **changed)
    assert all(word in line for word in words), line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("changed", "facts", "words"),
    [
        ({"heartbeat_s": 30}, Facts(), ("RABBITMQ_HEARTBEAT 30", "93 s")),
        ({"heartbeat_s": 4}, Facts(), ("RABBITMQ_HEARTBEAT 4",)),
        (
            {"prefetch_count": 20, "batch_size": 10, "max_size": 4, "queue_concurrency": 10}
            | {"max_message_bytes": "1MiB"},
            Facts(),
            ("RABBITMQ_PREFETCH_COUNT 20", "120 would"),
        ),
        ({"prefetch_count": 3000, "max_message_bytes": 1000}, Facts(), ("3000", "2000")),
        ({"prefetch_count": 10}, Facts(), ("RABBITMQ_PREFETCH_COUNT 10", "window_max_bytes")),
        ({"batch_size": 10}, Facts(sync_handler=True), ("20 jobs", "1200 s", "QUEUE_BATCH_SIZE")),
        ({}, Facts(job_stop_wait_s=3), ("RAY_JOB_STOP_WAIT_TIME_S 3", '"RAY_JOB_STOP_WAIT_TIME_S":"60"')),
        ({}, Facts(job_stop_wait_s=3), ("`rabbitray submit`",)),
        ({}, Facts(shown_secrets=("DB_PASSWORD", "API_KEY")), ("DB_PASSWORD, API_KEY", "--secrets-file")),
        ({"results": "x.duckdb"}, Facts(results_go=True), ("x.duckdb", "Ray deletes", "absolute path")),
        ({"rabbitmq_url": "amqp://w:x@rabbit/"}, Facts(), ("amqp:// to rabbit", "amqps")),
        ({"rabbitmq_url": "amqps://guest:guest@rabbit/"}, Facts(), ("guest", "rabbit")),
        ({"min_size": 8}, Facts(cpus=2), ("min_size 8", "8", "2")),
    ],
)
def test_what_is_risky_is_named_and_goes_on(changed: dict[str, object], facts: Facts, words: tuple[str, ...]) -> None:
    (line,) = texts("warn", facts, **changed)
    assert all(word in line for word in words), line
    assert texts("refuse", facts, **changed) == []


@pytest.mark.parametrize(
    ("changed", "facts"),
    [
        ({"rabbitmq_url": "amqps://w:x@h/?no_verify_ssl=1", "insecure_skip_verify": True}, Facts()),
        ({"rabbitmq_url": "amqp://localhost:5672/?heartbeat=10&name=x"}, Facts()),
        ({"drain_deadline_s": 2}, Facts(job_stop_wait_s=3)),
        ({"prefetch_count": 3000, "queue_type": "classic", "max_message_bytes": 1000}, Facts()),
        ({"prefetch_count": 200, "batch_size": 32, "max_size": 2, "max_message_bytes": 4096}, Facts()),
        ({"min_size": 0}, Facts(cpus=0.5)),
        ({"batch_size": 10}, Facts()),
    ],
)
def test_what_is_fine_passes_without_a_word(changed: dict[str, object], facts: Facts) -> None:
    assert check_settings(Settings.model_validate(changed), facts) == []


def test_no_finding_shows_a_password() -> None:
    url = "amqp://guest:geheim@rabbit/?no_verify_ssl=1&heartbeat=x"
    findings = check_settings(Settings(rabbitmq_url=Secret(url)), Facts())
    assert len(findings) == 4
    assert [finding.level for finding in findings] == ["refuse", "refuse", "warn", "warn"]
    assert "geheim" not in str(findings)


@given(timeout_s=st.floats(0.1, 1_400), batch_ms=st.integers(0, 60_000), commit_ms=st.integers(0, 10_000))
def test_what_a_job_may_take_by_default_fits_into_what_rabbitmq_leaves_it(
    timeout_s: float, batch_ms: int, commit_ms: int
) -> None:
    settings = Settings(handler_timeout_s=timeout_s, batch_timeout_ms=batch_ms, commit_interval_ms=commit_ms)
    assert settings.hold_s + settings.run_s < 1_800
    assert timeout_s <= settings.longest_run_s <= 1_800 - settings.hold_s
    assert not [f for f in check_settings(settings, Facts()) if f.level == "refuse"]


@pytest.mark.parametrize(
    ("package", "version", "refused"),
    [
        ("pamqp", "4.0.0", True),
        ("pamqp", "4.0.1", False),
        ("aio-pika", "9.9", True),
        ("aio-pika", "10.2.1", False),
        ("aio-pika", "10.3rc1", False),
        ("aio-pika", "11.0.0", True),
        ("aio-pika", "11.0rc1", True),
        ("aio-pika", "10.10", False),
        ("aio-pika", "10.2.1.post1", False),
        ("duckdb", "1.4.5", True),
        ("duckdb", "2.0", False),
        ("ray", "2.56.1", True),
        ("ray", "2.57.0", False),
        ("ray", "2.60.9", False),
        ("ray", "2.61.0", True),
        ("duckdb", "2.0rc1", True),
        ("ray", "3.0.0.dev0", True),
        ("ray", "unreadable", True),
        ("ray", None, True),
    ],
)
def test_packages_that_lose_data_are_refused(package: str, version: str | None, refused: bool) -> None:
    findings = check_versions({**dict(OTHERS), package: version})
    assert [finding.level for finding in findings] == (["refuse"] if refused else [])
    assert all(package in finding.text for finding in findings)


def test_what_is_checked_at_the_start_is_what_is_asked_for_at_installation() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {one.name: one.specifier for one in map(Requirement, project["dependencies"])}
    assert {package: SpecifierSet(wanted) for package, wanted in FLOORS.items()} == {
        package: asked[package] for package in FLOORS
    }


def test_the_installed_packages_are_good_enough() -> None:
    assert set(installed_versions()) == set(FLOORS)
    assert check_versions(installed_versions()) == []


def test_the_file_system_of_a_path_is_that_of_the_deepest_mount() -> None:
    mounts = [("/", "ext4"), ("/data", "nfs4"), ("/data/local", "xfs"), ("/dat", "tmpfs")]
    assert file_system_of("/data/results.duckdb", mounts) == "nfs4"
    assert file_system_of("/data/local/r", mounts) == "xfs"
    assert file_system_of("/database/r", mounts) == "ext4"
    assert file_system_of("/r", []) is None


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("rabbit", False), ("10.0.0.1", False), ("", False)],
)
def test_what_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local
