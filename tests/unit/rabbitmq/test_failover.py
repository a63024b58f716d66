"""Addresses: one round over a broker's nodes, the order of rounds after a loss, what each of them said."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiormq.exceptions import ConnectionNotAllowed, ProbableAuthenticationError

from rabbitray.actors.errors import BrokerUnreachableError
from rabbitray.actors.rabbitmq.addresses import BrokerUrls
from rabbitray.actors.rabbitmq.errors import NoAddressError, describe, is_loss, refusal
from rabbitray.actors.rabbitmq.failover import Addresses
from rabbitray.actors.rabbitmq.reconnect import within
from rabbitray.actors.secret import Secret
from rabbitray.cluster.telemetry import LogConfig, start_logging
from tests.kit.given_up import gives_up

URLS = Secret("amqp://u:password-a@a:1/ amqp://u:password-b@b:2/v amqp://u:password-c@c:3/")
REFUSED = ProbableAuthenticationError("ACCESS_REFUSED - password-a")
NO_VHOST = ConnectionNotAllowed(530, "NOT_ALLOWED - vhost v not found")


class Nodes:
    """What a broker's nodes do to an attempt: nothing, or raise; `tried` in order, with the seconds each had."""

    def __init__(self, **errors: BaseException) -> None:
        self.errors = errors
        self.tried: list[str] = []
        self.had: list[float] = []

    async def attempt(self, url: Secret, timeout_s: float) -> str:
        host = url.reveal().rpartition("@")[2][0]
        self.tried.append(host)
        self.had.append(timeout_s)
        if (error := self.errors.get(host)) is not None:
            raise error
        return host

    async def round(self, addresses: Addresses) -> str:
        """One, and which were tried."""
        self.tried.clear()
        await addresses.connect(self.attempt, 15.0)
        return "".join(self.tried)


async def test_they_are_tried_in_order_and_each_has_its_share_of_the_time() -> None:
    nodes, addresses = Nodes(a=OSError("no"), b=TimeoutError()), Addresses(URLS)
    assert await nodes.round(addresses) == "abc"
    assert addresses.at == "c:3/"
    assert nodes.had == [5.0, 5.0, 5.0]
    alone = Nodes()
    await alone.round(Addresses(Secret("amqp://u:p@a/")))
    assert alone.had == [15.0]


async def test_a_lost_connection_goes_to_the_next_address_first_and_back_to_the_lost_one_last() -> None:
    nodes, addresses = Nodes(), Addresses(URLS)
    assert await nodes.round(addresses) == "a"
    addresses.lost()
    addresses.lost()  # whoever ends a connection need not know whether it was told before
    assert await nodes.round(addresses) == "b"
    assert await nodes.round(addresses) == "b", "nobody said that it was lost"
    nodes.errors = {"c": OSError("no"), "a": OSError("no")}
    addresses.lost()
    assert await nodes.round(addresses) == "cab"


async def test_a_round_that_failed_begins_again_where_it_began() -> None:
    nodes, addresses = Nodes(), Addresses(URLS)
    await nodes.round(addresses)
    addresses.lost()
    nodes.errors = {name: OSError("no") for name in "abc"}
    for _ in range(3):
        addresses.lost()
        with pytest.raises(NoAddressError):
            await nodes.round(addresses)
        assert "".join(nodes.tried) == "bca"


async def test_one_address_fails_with_its_own_error_and_several_with_what_each_said() -> None:
    with pytest.raises(OSError, match=r"^no$"):
        await Nodes(a=OSError("no")).round(Addresses(Secret("amqp://a/")))
    addresses = Addresses(URLS)
    with pytest.raises(NoAddressError) as failed:
        await Nodes(a=REFUSED, b=NO_VHOST, c=ConnectionRefusedError(111, "refused")).round(addresses)
    assert is_loss(failed.value)
    assert refusal(failed.value, addresses.redact) is None, "c may come back"
    said = describe(failed.value, addresses.redact)
    assert said == (
        "a:1/: login refused; check user and password in RABBITMQ_URL (RabbitMQ: ACCESS_REFUSED - ***); "
        "b:2/v: vhost refused (NOT_ALLOWED - vhost v not found); check the path of RABBITMQ_URL and the user's "
        "permissions; c:3/: [Errno 111] refused"
    )


async def test_where_all_refuse_for_good_nothing_is_tried_again_and_each_is_told() -> None:
    nodes, addresses = Nodes(a=REFUSED, b=NO_VHOST, c=REFUSED), Addresses(URLS)

    async def step() -> str:
        return await addresses.connect(nodes.attempt, 15.0)

    with pytest.raises(BrokerUnreachableError) as refused:
        await within(60, step, addresses)
    assert nodes.tried == ["a", "b", "c"]
    text = str(refused.value)
    assert text.startswith("RabbitMQ at 3 addresses: a:1/: login refused; ")
    assert "; b:2/v: vhost refused (" in text
    assert "; c:3/: login refused" in text
    assert "password-" not in text


async def test_a_refused_address_is_told_although_another_one_takes_us(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert await Nodes(a=REFUSED).round(Addresses(URLS)) == "ab"
    [line] = [record.getMessage() for record in caplog.records]
    assert line == (
        "RabbitMQ at a:1/: login refused; check user and password in RABBITMQ_URL (RabbitMQ: ACCESS_REFUSED - ***); "
        "connected to b:2/v instead"
    )


async def test_what_is_no_loss_ends_the_round() -> None:
    nodes = Nodes(a=KeyError("ours"))
    with pytest.raises(KeyError):
        await nodes.round(Addresses(URLS))
    assert nodes.tried == ["a"]


async def test_a_connection_that_is_given_up_by_the_client_is_a_loss_like_others() -> None:
    addresses, tried = Addresses(URLS), []

    async def attempt(url: Secret, _: float) -> str:
        tried.append(url)
        return await gives_up() if len(tried) == 1 else "b"

    assert await addresses.connect(attempt, 15.0) == "b"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "url"
    path.touch(mode=0o600)
    hold(path, "amqp://u:password-a@a:1/\namqp://u:password-b@b:2/")
    return path


def hold(file: Path, text: str | None) -> None:
    """It holds this; None: there is none."""
    if text is None:
        file.unlink()
    else:
        file.write_text(text)


def held_by(file: Path) -> BrokerUrls:
    return BrokerUrls(file.read_text(), file)


async def test_a_file_is_read_again_before_each_round_and_the_turn_is_kept(file: Path) -> None:
    nodes, addresses = Nodes(), Addresses(held_by(file))
    assert await nodes.round(addresses) == "a"
    hold(file, "amqp://u:password-a@a:1/ amqp://u:rotated-b@b:2/ amqp://u:password-c@c:3/")
    nodes.errors = {"b": OSError("rotated-b is wrong"), "c": OSError("password-b was better")}
    addresses.lost()
    assert await nodes.round(addresses) == "bca"
    known = addresses.known
    assert type(known) is Secret, "who is told it has no such file"
    assert [url.rpartition("@")[0][-10:] for url in known.reveal().split()] == [
        "password-a",
        ":rotated-b",
        "password-c",
    ]
    for word in ("password-a", "password-b", "rotated-b", "password-c"):
        assert word not in addresses.redact(f"RabbitMQ said {word}")


async def test_a_file_that_cannot_be_used_leaves_what_is_known_and_is_told_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    nodes, addresses = Nodes(), Addresses(held_by(file))
    hold(file, "amqp://u:password-x@a:1/ no-url")
    assert [await nodes.round(addresses) for _ in range(3)] == ["a", "a", "a"]
    hold(file, None)
    assert await nodes.round(addresses) == "a"
    goes_on = "the URLs that it held before are used on"
    assert [record.getMessage() for record in caplog.records] == [
        f"RABBITMQ_URL_FILE {file}: URL 2 of 2: not an AMQP URL; {goes_on}",
        f"RABBITMQ_URL_FILE {file}: cannot be read: No such file or directory; {goes_on}",
    ]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Of our log; the root logger is put back afterwards."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield io.StringIO()
    root.setLevel(level)
    root.handlers[:] = handlers


async def test_a_password_that_is_learnt_from_the_file_is_in_no_line_of_the_log(
    file: Path, stream: io.StringIO
) -> None:
    urls = held_by(file)
    start_logging(LogConfig(secrets=(urls,)), "test", stream=stream)
    log = logging.getLogger("somebody")
    log.warning("before: rotated-b")
    hold(file, "amqp://u:rotated-b@b:2/")
    await Nodes().round(Addresses(urls))
    log.warning("after: rotated-b, password-b")
    said = stream.getvalue()
    assert "before: rotated-b" in said
    assert "after: ***, ***" in said
