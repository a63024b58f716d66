"""What a process knows of the Ray job that it is, and of the job server that it would submit to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.secret import Secret
from rabbitray.cluster.settings import load
from rabbitray.cluster.settings.job import job_server_access, shown_secrets

MARK = "RAY_JOB_CONFIG_JSON_ENV_VAR"


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("RABBITMQ_URL", "amqp://worker:geheim@rabbit/", True),
        ("RABBITMQ_URL", "amqp://a/ amqp://worker:geheim@rabbit/", True),
        ("RABBITMQ_URL", "amqp://guest:guest@localhost/", False),
        ("RABBITMQ_URL", "amqp://rabbit/", False),
        ("RABBITMQ_URL_FILE", "/home/ubuntu/.rabbitmq-url", False),
        ("DB_PASSWORD", "x", True),
        ("DB_PASSWORD_FILE", "/run/x", False),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer x", True),
        ("API_KEY", "x", True),
        ("AWS_SECRET_ACCESS_KEY", "x", True),
        ("GITHUB_TOKEN", "x", True),
        ("GITHUB_TOKEN", "", False),
        ("KEYBOARD", "de", False),
        ("TOKENIZERS_PARALLELISM", "false", False),
        ("TOKENIZER", "bert-base", False),
        ("MAX_TOKENS", "512", False),
        ("MAX_TOKENS", "1234567", True),
        ("USE_SECRETS", "On", False),
        ("DB_PASSWORD", "1234", True),
        ("CLIENT_SECRET", "512", True),
        ("DB_PASS", "1234", True),
        ("DB_PWD", "x", True),
        ("OLDPWD", "/a", False),
        ("BYPASS", "x", False),
        ("AWS_ACCESS_KEY_ID", "AKIA", True),
        ("ARGUMENTS", "--find-links=https://u:geheim@host/", True),
        ("BROKERS", "amqp://a/,amqp://u:geheim@b/", True),
        ("RAY_JOB_STOP_WAIT_TIME_S", "60", False),
        ("PYTHONPATH", "/a", False),
    ],
)
def test_what_seems_to_be_a_secret(name: str, value: str, secret: bool) -> None:
    assert shown_secrets({name: value}) == ((name,) if secret else ())


def test_a_job_knows_which_of_its_variables_everybody_sees() -> None:
    shown = {"runtime_env": {"env_vars": {"DB_PASSWORD": "x", "TZ": "UTC"}}}
    assert load({}, {MARK: json.dumps(shown)}, None).shown_secrets == ("DB_PASSWORD",)
    assert load({}, {"DB_PASSWORD": "x"}, None).shown_secrets == ()
    for odd in ("", "{}", "[]", "{", '{"runtime_env": null}', '{"runtime_env": {"env_vars": []}}'):
        assert load({}, {MARK: odd}, None).shown_secrets == ()


def test_a_job_knows_whether_ray_deletes_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert load({}, {MARK: "{}"}, None).results_go
    assert not load({"results": tmp_path / "results.duckdb"}, {MARK: "{}"}, None).results_go
    assert not load({}, {}, None).results_go


def test_the_token_is_looked_for_where_ray_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert job_server_access().token is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of-home\n")
    assert job_server_access().token == Secret("of-home")
    assert not job_server_access().always
    (tmp_path / "token").write_text("of-path")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert (job_server_access().token, job_server_access().token_from) == (Secret("of-path"), str(tmp_path / "token"))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-variable")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert (job_server_access().token, job_server_access().always) == (Secret("of-variable"), True)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert job_server_access().token is None


def test_what_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "missing"))
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        job_server_access()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_JOB_HEADERS", "[1]")
    with pytest.raises(ConfigurationError, match="RAY_JOB_HEADERS: must be a JSON object"):
        job_server_access()


def test_what_is_handed_to_the_handler_is_hidden_if_it_seems_to_be_a_secret() -> None:
    loaded = replace(load({}, {}, None), handed={"DB_PASSWORD": Secret("geheimnis"), "SCHEMA": Secret("orders")})
    assert Secret("geheimnis") in loaded.secrets
    assert Secret("orders") not in loaded.secrets
    assert "geheimnis" not in repr(loaded)
