"""The file of secrets, and the broker's URL that goes along."""

from __future__ import annotations

from pathlib import Path

import pytest

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.secret import Secret
from rabbitray.cluster.settings import load
from rabbitray.cluster.submit.handover import for_handler
from rabbitray.cluster.submit.variables import (
    broker_names,
    file_alone,
    names_this_machine,
    read_variables,
    require_one_broker,
    with_broker,
)


def secrets_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "secrets"
    file.write_text(text)
    file.chmod(mode)
    return file


def plain(variables: dict[str, Secret]) -> dict[str, str]:
    return {name: value.reveal() for name, value in variables.items()}


def test_variables_are_read_as_a_shell_would_write_them(tmp_path: Path) -> None:
    text = "\n".join(
        [
            "# the mail server",
            "",
            "MAIL_PASSWORD=a=b #c",
            "export  KEY = 'two words'",
            'EMPTY=""',
            "RABBITMQ_URL=amqp://a:b@c/",
        ]
    )
    assert plain(read_variables(secrets_file(tmp_path, text))) == {
        "MAIL_PASSWORD": "a=b #c",
        "KEY": "two words",
        "EMPTY": "",
        "RABBITMQ_URL": "amqp://a:b@c/",
    }


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("geheim", "line 1: must be NAME=VALUE"),
        ("1A=geheim", "line 1: must be NAME=VALUE"),
        ("A=geheim\nA=geheim", "line 2: A is there twice"),
        ("RABBITRAY_QUEUE=geheim", "RABBITRAY_QUEUE is a setting"),
        ("RAY_ADDRESS=geheim", "RAY_ADDRESS has no effect"),
        ("PATH=geheim", "PATH has no effect"),
        ("RABBITMQ_URL=http://geheim", "RABBITMQ_URL: not an AMQP URL"),
        ("RABBITMQ_URL=", "RABBITMQ_URL: is empty"),
        ("A=" + "geheim" * 20_000, "is longer than 65536 bytes"),
    ],
)
def test_a_mistake_is_one_line_that_shows_no_value(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_variables(secrets_file(tmp_path, line))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "geheim" not in str(refused.value)


def test_a_file_that_others_can_read_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="others can read the password"):
        read_variables(secrets_file(tmp_path, "A=1", mode=0o644))
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_variables(tmp_path / "missing")


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        ({}, {}, {}),
        ({"A": "1"}, {"RABBITMQ_URL": "amqp://a:b@c/"}, {"RABBITRAY_RABBITMQ_URL": "amqp://a:b@c/", "A": "1"}),
        ({}, {"CLOUDAMQP_URL": "amqp://a:b@c/"}, {"RABBITRAY_RABBITMQ_URL": "amqp://a:b@c/"}),
        ({"AMQP_URL": "amqp://d/"}, {"RABBITMQ_URL": "amqp://a:b@c/"}, {"RABBITRAY_RABBITMQ_URL": "amqp://d/"}),
        ({"RABBITMQ_URL_FILE": "/url"}, {"RABBITMQ_URL": "amqp://a:b@c/"}, file_alone("/url")),
    ],
)
def test_the_broker_of_this_shell_goes_along_unless_the_file_names_one(
    given: dict[str, str], environ: dict[str, str], expected: dict[str, str]
) -> None:
    variables = {name: Secret(value) for name, value in given.items()}
    assert plain(with_broker(variables, load({}, environ, None))) == expected


HEAD = {name: "amqp://of-the-head/" for name in broker_names() if not name.endswith("_FILE")}


def test_what_goes_along_wins_over_whatever_the_head_s_environment_says(tmp_path: Path) -> None:
    url = secrets_file(tmp_path, "amqp://u:pw@of-the-file/")
    others = dict.fromkeys(("RABBITMQ_URL_FILE", "RABBITRAY_RABBITMQ_URL_FILE"), str(tmp_path / "of-the-head"))
    in_job = load({}, HEAD | others | file_alone(str(url)), None)
    assert in_job.settings.rabbitmq_url.reveal() == "amqp://u:pw@of-the-file/"
    sent = plain(with_broker({}, load({}, {"AMQP_URL": "amqp://of-the-laptop/"}, None)))
    assert load({}, HEAD | others | sent, None).settings.rabbitmq_url.reveal() == "amqp://of-the-laptop/"


def test_two_brokers_are_one_line(tmp_path: Path) -> None:
    given = {"RABBITMQ_URL": Secret("amqp://a:geheim@b/"), "A": Secret("1")}
    require_one_broker(given, None)
    require_one_broker({"A": Secret("1")}, "/url")
    with pytest.raises(ConfigurationError) as refused:
        require_one_broker(given, "/url")
    assert str(refused.value) == (
        "--secrets-file has RABBITMQ_URL, and --url-file-on-head names the broker, too; leave one out"
    )


def test_a_broker_on_this_machine_is_noticed() -> None:
    assert names_this_machine({"RABBITMQ_URL": Secret("amqp://a:b@far/ amqp://localhost/")}) == "localhost"
    assert names_this_machine({"AMQP_URL": Secret("amqp://127.0.0.1:1/")}) == "127.0.0.1"
    assert names_this_machine({name: Secret(value) for name, value in file_alone("/url").items()}) is None
    assert names_this_machine({"RABBITMQ_URL": Secret("amqp://far/"), "DB": Secret("pg://localhost/")}) is None


def test_a_worker_gets_what_is_neither_the_broker_s_nor_a_collector_s() -> None:
    names = (
        "RABBITMQ_URL",
        "AMQP_URL",
        "RABBITMQ_URL_FILE",
        "RABBITRAY_RABBITMQ_URL",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "DB",
    )
    assert plain(for_handler({name: Secret("x") for name in names})) == {"DB": "x"}
