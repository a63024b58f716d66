"""Where a value comes from, what is refused and how, and that the documentation says the same."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.message.keys import DEFAULT_RULE, parse_key_rule
from rabbitray.actors.rabbitmq.addresses import BrokerUrls
from rabbitray.actors.secret import Redactor, Secret
from rabbitray.cluster.driver import compose
from rabbitray.cluster.settings import Loaded, Settings, configuration_markdown, describe, load, load_here, safe_name
from rabbitray.cluster.settings.kinds import allowed_values, kind_of
from tests.kit.root import ROOT

URL = "amqp://worker:geheim@rabbit:5672/orders"


def refusal(
    cli: dict[str, object] | None = None, environ: dict[str, str] | None = None, toml: Path | None = None
) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        load(cli or {}, environ or {}, toml)
    assert refused.value.exit_code == 2
    return str(refused.value).splitlines()


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "rabbitray.toml"


def test_the_command_line_beats_the_environment_beats_the_file_beats_the_default(toml: Path) -> None:
    toml.write_text("max_retries = 1\nmin_size = 1\ncommit_rows = 10\n")
    loaded = load({"max_retries": 3, "queue": None}, {"MAX_RETRIES": "2", "RABBITRAY_MIN_SIZE": "2"}, toml)
    settings = loaded.settings
    assert (settings.max_retries, settings.min_size, settings.commit_rows, settings.queue) == (3, 2, 10, "jobs")
    assert loaded.sources["max_retries"] == "command line"
    assert loaded.sources["min_size"] == "environment RABBITRAY_MIN_SIZE"
    assert loaded.sources["commit_rows"] == f"{toml} line 3"
    assert loaded.sources["queue"] == "default"
    assert loaded.is_set("min_size")
    assert not loaded.is_set("queue")


def test_our_own_variable_beats_the_reports_and_that_beats_what_others_call_it() -> None:
    environ = {"RABBITRAY_BATCH_SIZE": "30", "QUEUE_BATCH_SIZE": "20", "CONSUMER_BATCH_SIZE": "10"}
    for expected in (30, 20, 10):
        assert load({}, environ, None).settings.batch_size == expected
        environ.pop(next(iter(environ)))


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load({}, {"MAX_RETRIES": " "}, None).settings.max_retries == 5


@pytest.mark.parametrize(
    ("environ", "name", "value"),
    [
        ({"RABBITMQ_PREFETCH_COUNT": "adaptive"}, "prefetch_count", "adaptive"),
        ({"RABBITMQ_PREFETCH_COUNT": "100"}, "prefetch_count", 100),
        ({"RABBITMQ_CHANNEL_POOL_SIZE": "5"}, "publisher_pool_size", 5),
        ({"PUBLISHER_POOL_SIZE": "4"}, "publisher_pool_size", 4),
        ({"RABBITMQ_HEARTBEAT": "30"}, "heartbeat_s", 30),
        ({"RABBITMQ_FRAME_MAX": "131072"}, "frame_max", 131072),
        ({"QUEUE_CONCURRENCY": "10"}, "queue_concurrency", 10),
        ({"QUEUE_BATCH_TIMEOUT": "0"}, "batch_timeout_ms", 0),
        ({"WORKER_POOL_SIZE": "10"}, "max_size", 10),
        ({"RABBITRAY_MAX_SIZE": "auto"}, "max_size", None),
        ({"RAY_ADDRESS": "auto"}, "ray_address", "auto"),
        ({"RAY_ADDRESS": "local"}, "ray_address", None),
        ({"RABBITRAY_DOWNSCALE_TO_ZERO_DELAY_S": "off"}, "downscale_to_zero_delay_s", None),
        ({"RABBITRAY_DOWNSCALE_TO_ZERO_DELAY_S": "60"}, "downscale_to_zero_delay_s", 60.0),
        ({"METRICS_ENABLED": "false"}, "metrics_enabled", False),
        ({"RABBITRAY_WINDOW_MAX_BYTES": "100 MB"}, "window_max_bytes", 100_000_000),
        ({"RABBITRAY_MAX_MESSAGE_BYTES": "1MiB"}, "max_message_bytes", 1048576),
        ({"RABBITRAY_LOG_LEVEL": "debug"}, "log_level", "DEBUG"),
        ({"DATABASE_STATEMENT_TIMEOUT": "10000"}, "query_timeout_ms", 10_000),
        ({"RETRY_BACKOFF": "fixed"}, "retry_backoff", "fixed"),
    ],
)
def test_the_reports_names_and_forms_are_taken(environ: dict[str, str], name: str, value: object) -> None:
    assert getattr(load({}, environ, None).settings, name) == value


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"MAX_RETRIES": "many"}, "MAX_RETRIES='many' (environment): must be a whole number from 0 to 100"),
        ({"MAX_RETRIES": "101"}, "MAX_RETRIES='101' (environment): must be a whole number from 0 to 100"),
        (
            {"QUEUE_BATCH_SIZE": "0"},
            "QUEUE_BATCH_SIZE='0' (environment): must be adaptive, or a whole number from 1 to 500",
        ),
        (
            {"RABBITMQ_PREFETCH_COUNT": "0"},
            "RABBITMQ_PREFETCH_COUNT='0' (environment): must be adaptive, or a whole number from 1 to 65535 "
            "(0 would be unlimited)",
        ),
        (
            {"RABBITMQ_HEARTBEAT": "65535"},
            "RABBITMQ_HEARTBEAT='65535' (environment): must be a whole number from 1 to 65534",
        ),
        (
            {"RABBITRAY_TARGET_UTILIZATION": "nan"},
            "RABBITRAY_TARGET_UTILIZATION='nan' (environment): must be a number above 0 up to 1",
        ),
        (
            {"RABBITRAY_WIRE_FORMAT": "pickle"},
            "RABBITRAY_WIRE_FORMAT='pickle' (environment): must be one of msgpack, compact_json, verbose_json",
        ),
        (
            {"RABBITRAY_MAX_SIZE": "0"},
            "RABBITRAY_MAX_SIZE='0' (environment): must be a whole number from 1 to 10000, or auto",
        ),
        (
            {"RABBITRAY_MESSAGE_FORMAT": "reports"},
            "RABBITRAY_MESSAGE_FORMAT='reports' (environment): must be one of auto, report, plain; "
            "did you mean report?",
        ),
        (
            {"RABBITRAY_HANDLER": "no_attribute"},
            "RABBITRAY_HANDLER='no_attribute' (environment): must be module:attribute",
        ),
    ],
)
def test_a_bad_value_is_one_line_with_name_place_value_and_range(environ: dict[str, str], line: str) -> None:
    assert refusal(environ=environ) == [line]


def test_all_mistakes_come_in_one_go_one_line_each(toml: Path) -> None:
    toml.write_text("# pool\n\nmin_size = -1\nmax_sizes = 4\nmax_depth = true\n")
    lines = refusal({"commit_rows": 0}, {"MAX_RETRIES": "x", "OTEL_TRACES_EXPORTER": "jaeger"}, toml)
    assert sorted(lines) == sorted(
        [
            f"max_sizes ({toml} line 4): there is no such setting; did you mean max_size?",
            f"min_size=-1 ({toml} line 3): must be a whole number from 0 to 10000",
            f"max_depth=True ({toml} line 5): must be a whole number from 1 to 500",
            "MAX_RETRIES='x' (environment): must be a whole number from 0 to 100",
            "--commit-rows=0 (command line): must be a whole number from 1 to 1000000",
            "OTEL_TRACES_EXPORTER='jaeger' (environment): must be one or more of none, console, otlp",
        ]
    )


def test_a_word_that_is_not_allowed_names_the_one_that_was_meant() -> None:
    [key, decoder] = refusal({"decoder": "celary", "key": "property:corelation_id"})
    assert decoder.endswith("or module:attribute; did you mean celery?")
    assert key.endswith("or none; did you mean property:correlation_id?")


def test_a_flag_that_does_not_exist_names_the_one_that_was_meant() -> None:
    assert refusal({"min-siez": 1}) == ["--min-siez: there is no such setting; did you mean min_size?"]


def test_a_file_that_cannot_be_used_is_one_line(toml: Path) -> None:
    (missing,) = refusal(toml=toml)
    assert missing == f"{toml}: cannot be read: No such file or directory"
    toml.write_text("min_size = \n")
    (broken,) = refusal(toml=toml)
    assert broken.startswith(f"{toml}: not valid TOML: ")
    assert "line 1" in broken


def test_a_long_or_hostile_value_stays_a_short_line() -> None:
    (line,) = refusal(environ={"MAX_RETRIES": "9\n" * 5000})
    assert len(line) < 200


@pytest.mark.parametrize("name", ["RABBITMQ_URL", "AMQP_URL", "CLOUDAMQP_URL"])
def test_the_brokers_url_comes_under_every_usual_name(name: str) -> None:
    loaded = load({}, {name: URL}, None)
    assert loaded.settings.rabbitmq_url.reveal() == URL
    assert loaded.sources["rabbitmq_url"] == f"environment {name}"


def test_rabbitmq_url_beats_the_names_of_others() -> None:
    loaded = load({}, {"AMQP_URL": "amqp://other/", "RABBITMQ_URL": URL}, None)
    assert loaded.settings.rabbitmq_url.reveal() == URL


@pytest.fixture
def url_file(tmp_path: Path) -> Path:
    path = tmp_path / "url"
    path.write_text(URL + "\n")
    path.chmod(0o600)
    return path


def test_the_url_comes_from_a_private_file_before_the_names_of_others(url_file: Path) -> None:
    loaded = load({}, {"RABBITMQ_URL_FILE": str(url_file), "AMQP_URL": "amqp://other/"}, None)
    assert loaded.settings.rabbitmq_url.reveal() == URL
    assert loaded.sources["rabbitmq_url"] == f"file {url_file}"
    direct = load({}, {"RABBITMQ_URL_FILE": str(url_file), "RABBITMQ_URL": "amqp://direct/"}, None)
    assert direct.settings.rabbitmq_url.reveal() == "amqp://direct/"


def test_an_empty_url_file_says_that_it_is_empty(url_file: Path) -> None:
    url_file.write_text("\n")
    (line,) = refusal(environ={"RABBITMQ_URL_FILE": str(url_file)})
    assert line.startswith(f"RABBITMQ_URL_FILE={url_file} (environment): is empty; ")


def test_a_url_file_that_others_can_read_is_refused(url_file: Path) -> None:
    url_file.chmod(0o644)
    (line,) = refusal(environ={"RABBITMQ_URL_FILE": str(url_file)})
    assert "mode 0644" in line
    assert "geheim" not in line


def test_a_url_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    (line,) = refusal(environ={"RABBITMQ_URL_FILE": str(tmp_path / "none")})
    assert line.startswith("RABBITMQ_URL_FILE=")


def test_a_password_in_a_readable_toml_or_on_the_command_line_is_refused(toml: Path) -> None:
    toml.write_text(f'rabbitmq_url = "{URL}"\n')
    toml.chmod(0o644)
    (line,) = refusal(toml=toml)
    assert "chmod 600" in line
    (flag,) = refusal({"rabbitmq_url": URL})
    assert "RABBITMQ_URL_FILE" in flag
    assert "geheim" not in line + flag
    toml.chmod(0o600)
    assert load({}, {}, toml).settings.rabbitmq_url.reveal() == URL
    local = "amqp://guest:guest@127.0.0.1:5673/"
    assert load({"rabbitmq_url": local}, {}, None).settings.rabbitmq_url.reveal() == local


@pytest.mark.parametrize(
    "url", ["http://worker:geheim@rabbit/", "amqp://", "worker:geheim@rabbit", "amqp://u:geheim@h:port/"]
)
def test_a_broken_url_is_refused_without_being_shown(url: str) -> None:
    (line,) = refusal(environ={"RABBITMQ_URL": url})
    assert line.startswith("RABBITMQ_URL=*** (environment): must be amqp://")
    assert "geheim" not in line


@pytest.mark.parametrize("between", [" ", "\n", " \t\n "])
def test_several_urls_are_tried_in_turn_and_come_from_wherever_one_does(
    between: str, toml: Path, url_file: Path
) -> None:
    wanted = f"{URL} amqps://other:geheim-2@second/v"
    text = wanted.replace(" ", between)
    toml.write_text(f"rabbitmq_url = {json.dumps(text)}\n")
    toml.chmod(0o600)
    url_file.write_text(text + "\n")
    for loaded in (
        load({}, {"RABBITMQ_URL": text}, None),
        load({}, {"RABBITMQ_URL_FILE": str(url_file)}, None),
        load({}, {}, toml),
    ):
        assert loaded.settings.rabbitmq_url.reveal() == wanted
        row = next(row for row in describe(loaded) if row.name == "rabbitmq_url")
        assert row.value == "amqp://***@rabbit:5672/orders amqps://***@second/v"
        assert "geheim" not in Redactor(*loaded.secrets)(f"{wanted} geheim-2")
    local = f"amqp://guest:guest@127.0.0.1:5673/{between}amqp://127.0.0.1:5674/"
    assert load({"rabbitmq_url": local}, {}, None).settings.rabbitmq_url.reveal() == " ".join(local.split())


def test_the_one_of_several_urls_that_is_none_is_named_without_being_shown(toml: Path, url_file: Path) -> None:
    text = f"{URL} amqp://second/ amqp://u:geheim/1@third/"
    toml.write_text(f'rabbitmq_url = "{text}"\n')
    toml.chmod(0o600)
    url_file.write_text(text)
    for found in (
        refusal(environ={"RABBITMQ_URL": text}),
        refusal(environ={"RABBITMQ_URL_FILE": str(url_file)}),
        refusal(toml=toml),
    ):
        [line] = found
        assert "): URL 3 of 3: must be amqp:// or amqps://" in line
        assert "geheim" not in line


def test_a_password_in_any_of_several_urls_is_refused_where_others_can_read_it(toml: Path) -> None:
    text = f"amqp://guest:guest@127.0.0.1:5673/ {URL}"
    toml.write_text(f'rabbitmq_url = "{text}"\n')
    toml.chmod(0o644)
    [line] = refusal(toml=toml)
    assert "chmod 600" in line
    [flag] = refusal({"rabbitmq_url": text})
    assert "a password on the command line" in flag
    assert "geheim" not in line + flag


def test_certificates_of_each_url_need_not_be_verified_where_that_is_said_also_when_the_file_is_read_again(
    url_file: Path,
) -> None:
    url_file.write_text("amqps://a/ amqps://b/")
    environ = {"RABBITMQ_URL_FILE": str(url_file), "RABBITRAY_INSECURE_SKIP_VERIFY": "true"}
    urls = load({}, environ, None).settings.rabbitmq_url
    assert urls.reveal() == "amqps://a/?no_verify_ssl=1 amqps://b/?no_verify_ssl=1"
    assert isinstance(urls, BrokerUrls)
    url_file.write_text("amqps://c/")
    assert urls.again().reveal() == "amqps://c/?no_verify_ssl=1"


@pytest.mark.parametrize("name", ["RABBITMQ_URL", "AMQP_URL", "CLOUDAMQP_URL", "RABBITMQ_URL_FILE"])
@pytest.mark.parametrize("empty", ["", "  ", "\n"])
def test_an_empty_url_does_not_mean_the_broker_of_this_machine(name: str, empty: str, url_file: Path) -> None:
    [line] = refusal(environ={name: empty})
    assert line == f"{name} (environment): is empty; set it, or unset it if amqp://***@127.0.0.1:5672/ is meant"
    for cli, more in (({}, {"RABBITMQ_URL_FILE": str(url_file)}), ({"rabbitmq_url": "amqp://rabbit/"}, {})):
        assert load(cli, {name: empty} | more, None).settings.rabbitmq_url.reveal() in (URL, "amqp://rabbit/")


@pytest.mark.parametrize("where", ["file", "toml", "command line"])
def test_an_empty_url_elsewhere_is_refused_too(where: str, toml: Path, url_file: Path) -> None:
    url_file.write_text("\n")
    toml.write_text("rabbitmq_url = ''\n")
    toml.chmod(0o600)
    [line] = {
        "file": lambda: refusal(environ={"RABBITMQ_URL_FILE": str(url_file)}),
        "toml": lambda: refusal(toml=toml),
        "command line": lambda: refusal({"rabbitmq_url": ""}),
    }[where]()
    assert "must be amqp:// or amqps://" in line


def test_without_a_url_it_is_the_broker_of_this_machine() -> None:
    assert load({}, {}, None).settings.rabbitmq_url.reveal() == "amqp://guest:guest@127.0.0.1:5672/"


def test_no_secret_shows_in_settings_rows_or_errors() -> None:
    loaded = load({}, {"RABBITMQ_URL": URL}, None)
    shown = repr(loaded) + str(loaded.settings) + str(describe(loaded))
    assert "geheim" not in shown
    row = next(row for row in describe(loaded) if row.name == "rabbitmq_url")
    assert row.value.startswith("amqp://")
    assert row.value.endswith("@rabbit:5672/orders")


def test_a_known_password_shows_in_no_other_place_of_a_value() -> None:
    url = "amqp://bob:pa%27ss%22w%25rd%401@rabbit:5672/orders?cafile=/home/pa%27ss%22w%25rd%401.pem"
    loaded = load({}, {"RABBITMQ_URL": url}, None)
    rows = {row.name: row.value for row in describe(loaded)}
    assert rows["rabbitmq_url"] == "amqp://***@rabbit:5672/orders?cafile=/home/***.pem"


def test_config_shows_each_setting_with_value_source_variable_range_and_help() -> None:
    rows = {row.name: row for row in describe(load({}, {"QUEUE_BATCH_SIZE": "10"}, None))}
    assert list(rows) == list(Settings.model_fields)
    batch = rows["batch_size"]
    assert (batch.value, batch.source, batch.env) == ("10", "environment QUEUE_BATCH_SIZE", "QUEUE_BATCH_SIZE")
    assert rows["window_max_bytes"].value == "64MiB"
    assert rows["max_size"].value == "auto"
    assert rows["outage_hold"].value == "true"
    assert all(row.help and row.allowed and row.group for row in rows.values())


def test_every_shown_value_can_be_set_again() -> None:
    loaded = load({}, {"RABBITRAY_DRAIN_TARGET_S": "12.5", "RABBITRAY_MAX_MESSAGE_BYTES": "4097"}, None)
    environ = {f"RABBITRAY_{row.name.upper()}": row.value for row in describe(loaded) if row.name != "rabbitmq_url"}
    assert load({}, environ, None).settings == loaded.settings


def test_the_pool_is_named_after_its_queue_and_starts_with_what_it_must_have() -> None:
    loaded = load({"queue": "orders/é", "min_size": 4}, {}, None)
    assert (loaded.settings.pool, loaded.settings.initial_size) == ("orders--", 4)
    assert loaded.sources["pool"] == "derived from queue"
    assert loaded.sources["initial_size"] == "derived from min_size"
    assert load({"queue": "x", "pool": "mine"}, {}, None).settings.pool == "mine"


@given(st.text(min_size=1, max_size=80))
def test_any_queue_name_gives_a_usable_pool_name(queue: str) -> None:
    assert Settings(pool=safe_name(queue)).pool == safe_name(queue)


def test_a_hold_grows_with_the_handlers_timeout() -> None:
    assert Settings().hold_s == 300
    assert Settings(handler_timeout_s=3600).hold_s == 300, "what runs is another matter"
    assert Settings(consumer_timeout_s=600).hold_s == 200
    assert Settings(max_hold_s=120).hold_s == 120


def test_variables_without_effect_are_named() -> None:
    environ = {"DATABASE_POOL_MAX": "10", "RABBITRAY_MIN_SIZES": "2", "OTEL_CONFIG_FILE": "x", "HOME": "/"}
    notices = load({}, environ, None).notices
    assert [notice.split()[0] for notice in notices] == [
        "RABBITRAY_MIN_SIZES",
        "DATABASE_POOL_MAX",
        "OTEL_CONFIG_FILE",
    ]
    assert "did you mean RABBITRAY_MIN_SIZE?" in notices[0]
    assert load({}, {}, None).notices == ()


def test_what_ray_waits_on_a_stop_is_known_in_a_job_and_only_there() -> None:
    assert load({}, {}, None).job_stop_wait_s is None
    assert load({}, {"RAY_JOB_STOP_WAIT_TIME_S": "60"}, None).job_stop_wait_s == 60
    assert load({}, {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}, None).job_stop_wait_s == 3


def test_telemetry_comes_with_the_settings() -> None:
    loaded = load({}, {"OTEL_TRACES_EXPORTER": "console"}, None)
    assert loaded.telemetry.exporters == ("console",)


def test_settings_travel_to_actors_and_cannot_be_changed() -> None:
    settings = load({}, {"RABBITMQ_URL": URL}, None).settings
    again: Settings = pickle.loads(pickle.dumps(settings))
    assert again == settings
    assert again.rabbitmq_url.reveal() == URL
    with pytest.raises(ValueError, match="frozen"):
        settings.queue = "other"  # type: ignore[misc] # the point


def test_this_process_reads_the_file_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RABBITRAY_")]:
        monkeypatch.delenv(name)
    assert load_here({}).sources["min_size"] == "default"
    Path("rabbitray.toml").write_text("min_size = 3\n")
    assert load_here({}).settings.min_size == 3
    Path("other.toml").write_text("min_size = 4\n")
    monkeypatch.setenv("RABBITRAY_CONFIG", "other.toml")
    assert load_here({}).settings.min_size == 4


def test_nothing_is_read_at_import() -> None:
    code = "import rabbitray.cluster.settings; print(rabbitray.cluster.settings.Settings().max_retries)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"MAX_RETRIES": "x"}, capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "5"


def test_the_documentation_is_made_from_the_settings() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == configuration_markdown(), "run: python -m rabbitray.cluster.settings > docs/configuration.md"


def test_every_setting_has_words_and_every_default_is_allowed() -> None:
    loaded = load({}, {}, None)
    assert isinstance(loaded, Loaded)
    assert loaded.settings == Settings()
    for name, field in Settings.model_fields.items():
        assert allowed_values(field), name
        assert field.description, name
        variables = kind_of(field).environ_names(name)
        assert variables[0] == f"RABBITRAY_{name.upper()}"


def test_no_variable_sets_two_settings() -> None:
    variables = [v for name, field in Settings.model_fields.items() for v in kind_of(field).environ_names(name)]
    assert len(variables) == len(set(variables))


@given(st.dictionaries(st.sampled_from(sorted(Settings.model_fields)), st.text(max_size=12)))
def test_rubbish_in_the_environment_is_refused_in_words_and_never_breaks(values: dict[str, str]) -> None:
    environ = {f"RABBITRAY_{name.upper()}": value for name, value in values.items()}
    lines: list[str] = []
    try:
        load({}, environ, None)
    except ConfigurationError as refused:
        lines = str(refused).splitlines()
    assert all(": " in line for line in lines)


def test_a_secret_given_as_one_stays_one() -> None:
    assert Settings(rabbitmq_url=Secret(URL)).rabbitmq_url == Secret(URL)


def test_type_codes_reach_publisher_and_workers() -> None:
    loaded = load({}, {"RABBITRAY_TYPE_CODES": " C = CHRISTMAS, N=NEW YEAR,"}, None)
    for codes in (compose.publisher(loaded.settings).codes, compose.worker(loaded, "m:h").config.codes):
        assert [codes.read(letter) for letter in "CNB"] == ["CHRISTMAS", "NEW YEAR", "BIRTHDAY"]
        assert codes.write("NEW YEAR") == "N"
    assert compose.publisher(load({}, {"RABBITRAY_MAX_RECORDS": "70"}, None).settings).max_records == 70


@pytest.mark.parametrize(
    "text", ["C", "c=CHRISTMAS", "CH=CHRISTMAS", "C=X", "C=", "C=ONE,C=TWO", "C=BIRTHDAY", "C=A=B"]
)
def test_type_codes_that_cannot_be_told_apart_are_refused(text: str) -> None:
    [line] = refusal({}, {"RABBITRAY_TYPE_CODES": text})
    assert line.startswith("RABBITRAY_TYPE_CODES=")
    assert "capital letters with a message type" in line


@pytest.mark.parametrize(
    "text",
    ["header:", "property:timestamp", "property:correlation-id", "body:order/id", "body:/~", "order-id", "x" * 9_999],
)
def test_a_rule_for_keys_that_is_none_is_one_line(text: str) -> None:
    [line] = refusal({}, {"RABBITRAY_KEY": text})
    assert line.startswith("RABBITRAY_KEY=")
    assert "must be default, header:NAME, property:NAME (message_id, correlation_id, type, app_id, " in line
    assert "body:POINTER (a JSON pointer such as /order/id" in line


def test_the_rule_for_keys_reaches_intake_and_workers() -> None:
    loaded = load({"key": "body:/order/id"}, {"RABBITRAY_KEY": "none"}, None)
    assert loaded.settings.key == "body:/order/id"
    rule = parse_key_rule("body:/order/id")
    router = compose.router(loaded, "m:h", 1)
    assert router.intake.key == router.worker.config.identity.key == rule
    assert compose.router(load({}, {}, None), "m:h", 1).intake.key == DEFAULT_RULE


def test_what_a_worker_asks_for_is_read_from_every_layer(toml: Path) -> None:
    toml.write_text('worker_resources = "gpu=1"\n[worker_runtime_env]\nuv = ["a"]\nenv_vars = {TOKEN = "geheim"}\n')
    loaded = load({"worker_resources": "gpu=0.25"}, {"RABBITRAY_WORKER_LABEL_SELECTOR": "zone=a"}, toml)
    [kind] = loaded.settings.worker_kinds
    assert (kind.num_gpus, kind.selectors, kind.build_timeout_s) == (0.25, ((("zone", "a"),),), 600.0)
    assert kind.options["runtime_env"] == {"uv": ["a"], "env_vars": {"TOKEN": "geheim"}}
    shown = {row.name: row.value for row in describe(loaded)}
    assert shown["worker_runtime_env"] == '{"env_vars": {"TOKEN": "***"}, "uv": ["a"]}'


def test_what_no_worker_can_ask_for_is_refused_in_one_line_that_says_why() -> None:
    assert refusal({"worker_resources": "gpu=0.6"}) == [
        "--worker-resources (command line): gpu=0.6: a worker has whole GPUs, or 1/n of one (0.5, 0.25, 1/3); Ray "
        "counts the sum of a node's devices, and other shares may wait for ever"
    ]
    assert refusal(environ={"RABBITRAY_WORKER_RUNTIME_ENV": '{"working_dir": "."}'}) == [
        "RABBITRAY_WORKER_RUNTIME_ENV (environment): '.' is no URI of a package; Ray uploads local folders for a job "
        "only"
    ]
    assert refusal({"worker_num_cpus": -1, "worker_placement": "wide"}) == [
        "--worker-num-cpus=-1 (command line): must be a number from 0 to 1024",
        "--worker-placement='wide' (command line): must be one of spread, pack",
    ]
