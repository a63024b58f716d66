"""What a job is asked for: the same settings as here, nothing that is secret or of this machine."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from rabbitray.actors.errors import ConfigurationError
from rabbitray.cluster.commands.run import command as run
from rabbitray.cluster.settings import Loaded, Settings, load
from rabbitray.cluster.settings.kinds import kind_of
from rabbitray.cluster.settings.showing import shown
from rabbitray.cluster.submit.request import (
    STAYS,
    entrypoint,
    metadata,
    options,
    own_environment,
    require_absolute,
    runtime_environment,
)

OTHERS: dict[str, object] = {
    "handler": "mypackage.jobs:handle",
    "queue": "it's a $QUEUE; `rm`",
    "pool": "orders",
    "results": "/data/my results.duckdb",
    "error_categories": "mylib.QuotaError=transient, 418=permanent",
    "type_codes": "C=CHRISTMAS",
    "drain_deadline_s": 0.1 + 0.2,
    "window_max_bytes": "3MiB",
    "dead_letter_exchange": "any exchange",
}


def read_back(words: list[str]) -> Loaded:
    """The settings of a `rabbitray run` with these options."""
    given = dict(run.make_context("run", words).params)
    return load({name: value for name, value in given.items() if name in Settings.model_fields}, {}, None)


def test_every_setting_comes_through_the_shell_as_it_was_set_here() -> None:
    given = {
        name: OTHERS.get(name, shown(name, field.default))
        for name, field in Settings.model_fields.items()
        if name not in STAYS
    }
    loaded = load(given, {}, None)
    line = entrypoint(loaded, python="python")
    words = shlex.split(line)
    assert words[:5] == ["exec", "python", "-m", "rabbitray", "run"]
    assert read_back(words[5:]).settings == loaded.settings
    assert [name for name in given if f"--{name.replace('_', '-')}" not in line.replace("--no-", "--")] == []


def test_a_setting_comes_along_from_wherever_it_is_and_a_default_does_not(tmp_path: Path) -> None:
    file = tmp_path / "rabbitray.toml"
    file.write_text("min_size = 2\noutage_hold = false")
    environ = {"RABBITRAY_MAX_SIZE": "auto", "RABBITMQ_URL": "amqp://a:b@c/", "RAY_ADDRESS": "auto"}
    loaded = load({"queue": "orders"}, environ, file)
    assert options(loaded) == ["--queue", "orders", "--min-size", "2", "--max-size", "auto", "--no-outage-hold"]


@pytest.mark.parametrize("name", ["defaults.toml", "default", "derived.toml", "derived from queue"])
def test_a_setting_comes_along_from_a_file_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text('queue = "orders"\n')
    assert options(load({}, {}, Path(name))) == ["--queue", "orders"]


def test_what_is_secret_or_of_this_machine_stays() -> None:
    assert [name for name, field in Settings.model_fields.items() if kind_of(field).env in ("RABBITMQ_URL",)] == [
        "rabbitmq_url"
    ]
    assert {"rabbitmq_url", "rabbitmq_url_file", "ray_address"} <= STAYS
    loaded = load({}, {"RABBITMQ_URL": "amqp://a:geheim@c/"}, None)
    assert "geheim" not in entrypoint(loaded, python="python") + str(metadata(loaded, "1"))


@pytest.mark.parametrize(
    ("python", "begins"),
    [
        ("python3.12", "exec python3.12 -m"),
        ("~/venv/bin/python", "exec ~/venv/bin/python -m"),
        ("/opt/my env/python", "exec '/opt/my env/python' -m"),
        ("python; rm -r x", "exec 'python; rm -r x' -m"),
    ],
)
def test_the_cluster_s_python_is_one_word_of_its_shell(python: str, begins: str) -> None:
    assert entrypoint(load({}, {}, None), python=python).startswith(begins)


def test_metadata_say_whose_job_it_is() -> None:
    found = metadata(load({"queue": "my orders"}, {}, None), "1.2")
    assert found == {
        "app": "rabbitray", "version": "1.2", "pool": "my-orders", "queue": "my orders", "namespace": "rabbitray"
    }  # fmt: skip


def test_the_environment_has_time_to_drain_and_what_the_user_asks_for() -> None:
    own = own_environment('{"pip": ["httpx"], "env_vars": {"TZ": "UTC"}}')
    found = runtime_environment(
        own, working_dir="gcs://x.zip", drain_deadline_s=29.5, sent="name", url_file="/home/ubuntu/url"
    )
    assert found == {
        "pip": ["httpx"],
        "working_dir": "gcs://x.zip",
        "env_vars": {
            "TZ": "UTC",
            "RAY_JOB_STOP_WAIT_TIME_S": "60",
            "RAY_max_direct_call_object_size": "4194304",
            "RABBITRAY_SENT": "name",
            "RABBITRAY_RABBITMQ_URL_FILE": "/home/ubuntu/url",
            "RABBITRAY_RABBITMQ_URL": "",
            "RABBITMQ_URL": "",
            "AMQP_URL": "",
            "CLOUDAMQP_URL": "",
        },
    }
    longer = own_environment(
        '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "600", "RAY_max_direct_call_object_size": "1"}}'
    )
    kept = runtime_environment(longer, working_dir="gcs://x.zip", drain_deadline_s=30, sent=None, url_file=None)
    assert kept["env_vars"] == longer["env_vars"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "no JSON"),
        ("[]", "must be an object"),
        ('{"working_dir": "."}', "--working-dir"),
        ('{"env_vars": ["A"]}', "env_vars must be"),
        ('{"env_vars": {"A": 1}}', "env_vars must be"),
        ('{"env_vars": {"DB_PASSWORD": "x"}}', "DB_PASSWORD would be seen"),
        ('{"env_vars": {"DB": "postgres://u:geheim@db/"}}', "DB would be seen"),
        ('{"pip": ["x", "--find-links https://u:geheim@index/"]}', "pip would be seen"),
        ('{"uv": {"packages": ["x @ git+https://u:geheim@host/x"]}}', "packages would be seen"),
        ('{"excludes": ["data"]}', "has what is given as --exclude"),
        ('{"pip": "requirements.txt"}', "pip names a file of this machine; give a list of requirements"),
        ('{"uv": {"packages": "requirements.txt"}}', "uv names a file of this machine; give a list"),
        ('{"conda": "environment.yml"}', "conda names a file of this machine; give the environment itself"),
        ('{"py_modules": ["./mine"]}', "py_modules names a file of this machine; give a list of URIs"),
    ],
)
def test_what_cannot_be_an_environment_is_one_line_without_its_values(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        own_environment(text)
    line = str(refused.value)
    assert says in line
    assert "\n" not in line
    assert "geheim" not in line


@pytest.mark.parametrize(
    "text",
    [
        '{"conda": "of-the-cluster"}',
        '{"conda": {"dependencies": ["pip", {"pip": ["tokenizers"]}]}}',
        '{"py_modules": ["s3://bucket/mine.zip"]}',
        '{"uv": {"packages": ["httpx"]}, "config": {"setup_timeout_seconds": 60, "eager_install": true}}',
        '{"env_vars": {"TOKENIZERS_PARALLELISM": "false"}}',
    ],
)
def test_what_needs_no_file_of_this_machine_goes_as_it_is(text: str) -> None:
    assert own_environment(text) == json.loads(text)


def test_no_environment_is_an_empty_one() -> None:
    assert own_environment(None) == {}
    assert json.dumps(own_environment("{}")) == "{}"


def test_a_results_file_in_the_job_s_own_folder_is_refused() -> None:
    require_absolute("/data/orders.duckdb")
    with pytest.raises(ConfigurationError, match="must be an absolute path"):
        require_absolute("results.duckdb")
