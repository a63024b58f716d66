"""The URLs of a broker's nodes: what is taken, which one is named where it is none, and that no text holds one."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.rabbitmq.addresses import (
    BrokerUrls,
    address,
    checked,
    first_unusable,
    host_and_port,
    of,
    without_checks,
)
from rabbitray.actors.secret import Redactor, Secret, several, without_credentials

BLANKS = st.text(" \t\r\n", min_size=1, max_size=3)
PASSWORDS = st.integers(10**8, 10**12).map(lambda number: f"a%2F{number}%40é")
URLS = st.builds(
    "{}://user{}:{}@node-{}:{}/{}".format,
    st.sampled_from(["amqp", "amqps"]),
    st.integers(0, 9),
    PASSWORDS,
    st.integers(0, 9),
    st.integers(1, 65535),
    st.sampled_from(["", "%2F", "orders"]),
)
BAD = [
    "http://node/",
    "amqp://",
    "node:5672",
    "amqp://u:p@node:port/",
    "amqp://u:p/w@node/",
    "amqp://u:p\\w@node/",
    "x",
]


@given(st.lists(st.tuples(URLS, BLANKS), min_size=1, max_size=5), BLANKS)
def test_urls_between_blanks_and_lines_are_taken_in_order_each_once(parts: list[tuple[str, str]], before: str) -> None:
    text = before + "".join(url + blank for url, blank in parts)
    wanted = list(dict.fromkeys(url for url, _ in parts))
    found = checked(Secret(text))
    assert found.reveal() == " ".join(wanted)
    assert [one.reveal() for one in several(found)] == wanted
    assert checked(found) == found


@given(st.lists(URLS, max_size=3, unique=True), st.sampled_from(BAD), st.lists(URLS, max_size=3, unique=True))
def test_the_one_that_is_none_is_named_by_its_number_alone(before: list[str], bad: str, after: list[str]) -> None:
    after = [url for url in after if url not in before]
    urls = Secret(" ".join([*before, bad, *after]))
    with pytest.raises(ValueError, match=r"not an AMQP URL$") as refused:
        checked(urls)
    count = len(before) + len(after) + 1
    which = f"URL {len(before) + 1} of {count}: " if count > 1 else ""
    assert str(refused.value) == f"{which}not an AMQP URL"
    assert first_unusable(urls) == len(before)


@given(st.text(max_size=60))
def test_any_text_is_taken_or_refused(text: str) -> None:
    if text.strip() and first_unusable(Secret(text)) is None:
        assert all(host_and_port(one)[0] for one in several(checked(Secret(text))))
    else:
        with pytest.raises(ValueError, match=r"^is empty$|not an AMQP URL$"):
            checked(Secret(text))


@given(st.lists(URLS, min_size=2, max_size=4, unique=True))
def test_each_password_of_a_list_is_hidden(urls: list[str]) -> None:
    secret = Secret(" ".join(urls))
    logins = [url.partition("://")[2].rpartition("@")[0].partition(":") for url in urls]
    redact = Redactor(secret)
    for user, _, password in logins:
        assert password not in redact(f"RabbitMQ said: no entry for {password!s}.")
        assert f"{user}:{password}" not in redact(f"at amqp://{user}:{password}@elsewhere/")
    shown = without_credentials(secret)
    assert shown.count("://***@node-") == len(urls)
    assert not [password for _, _, password in logins if password in shown]


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("amqp://u:p@node/", "node:5672/"),
        ("amqps://u:p@node", "node:5671"),
        ("amqps://u:p%40x@node:1/v%2Fw?cafile=/etc/ca@home.pem", "node:1/v%2Fw"),
        ("amqp://[::1]:7/v", "[::1]:7/v"),
        ("amqp://[::1]/v", "[::1]:5672/v"),
        ("amqp://node", "node:5672"),
    ],
)
def test_what_people_are_told_of_an_address(url: str, wanted: str) -> None:
    assert address(Secret(url)) == wanted


def test_certificates_that_need_not_be_verified_are_so_for_each() -> None:
    urls = Secret("amqps://a/ amqp://b/ amqps://c/?heartbeat=5 amqps://d/?no_verify_ssl=0")
    assert without_checks(urls).reveal() == (
        "amqps://a/?no_verify_ssl=1 amqp://b/ amqps://c/?heartbeat=5&no_verify_ssl=1 amqps://d/?no_verify_ssl=0"
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "url"
    path.touch(mode=0o600)
    path.write_text("amqps://a:first@node-a/\namqps://b:other@node-b/\n")
    return path


def test_a_file_is_read_again(file: Path) -> None:
    urls = without_checks(checked(BrokerUrls(file.read_text(), file)))
    assert urls.reveal() == "amqps://a:first@node-a/?no_verify_ssl=1 amqps://b:other@node-b/?no_verify_ssl=1"
    file.write_text("amqps://a:second@node-a/")
    travelled = pickle.loads(pickle.dumps(of(urls)))
    assert isinstance(travelled, BrokerUrls)
    assert travelled == urls
    assert travelled.again().reveal() == "amqps://a:second@node-a/?no_verify_ssl=1"
    assert (repr(travelled), str(travelled)) == ("Secret('***')", "***")


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ("", 0o600, "is empty"),
        ("amqp://a/ b:secret@c", 0o600, "URL 2 of 2: not an AMQP URL"),
        ("amqp://u:secret@a/", 0o644, r"others can read the password \(mode 0644\); run chmod 600 /"),
        (None, 0o600, "cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(file: Path, text: str | None, mode: int, why: str) -> None:
    urls = BrokerUrls(file.read_text(), file)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
        file.chmod(mode)
    with pytest.raises(ValueError, match=f"^{why}") as refused:
        urls.again()
    assert "secret" not in str(refused.value)
