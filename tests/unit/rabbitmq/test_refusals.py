"""What cannot mend itself is said at once, in the broker's words, by all who connect; what may pass is tried again."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiormq import exceptions as aiormq_errors

from rabbitray.actors.errors import BrokerUnreachableError
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.rabbitmq.depth import DepthProbe
from rabbitray.actors.rabbitmq.errors import NotAmqpError, describe, refusal
from rabbitray.actors.rabbitmq.inspect import contact
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.opener import GenerationOpener
from rabbitray.actors.secret import Secret
from rabbitray.actors.telemetry.tracing import Tracing
from tests.kit.refusing_server import answering, certificate, handshaking, refusing, serving, tls

NO_VHOST = "NOT_ALLOWED - vhost nope not found"
NO_LOGIN = (
    "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
)
LIMIT = "NOT_ALLOWED - access to vhost '/' refused for user 'u': vhost connection limit (10) is reached"
WITHIN_S = 30.0


async def by_command(url: str) -> None:
    async with contact(Secret(url), within_s=WITHIN_S):
        pass


async def by_router(url: str) -> None:
    jobs = Topology(queue="jobs")
    config = IntakeConfig(url=Secret(url), topology=jobs, limits=MessageLimits(), connect_timeout_s=WITHIN_S)
    await GenerationOpener(config, Tracing(queue="jobs")).first()


async def by_publisher(url: str) -> None:
    async with Publisher(PublisherConfig(url=url, queue="jobs", connect_timeout_s=WITHIN_S)):
        pass


WAYS = pytest.mark.parametrize("connect", [by_command, by_router, by_publisher])
Connect = Callable[[str], Awaitable[None]]


async def said(connect: Connect, url: str) -> str:
    """The one line, which must come at once."""
    began = time.monotonic()
    with pytest.raises(BrokerUnreachableError) as caught:
        await connect(url)
    assert time.monotonic() - began < 5, "it was tried again"
    assert "\n" not in str(caught.value)
    assert "pass-word" not in str(caught.value)
    return str(caught.value)


@WAYS
@pytest.mark.parametrize(
    ("code", "text", "at", "says"),
    [
        (530, NO_VHOST, "vhost", f"vhost refused ({NO_VHOST}); check the path of RABBITMQ_URL"),
        (403, NO_LOGIN, "login", f"login refused; check user and password in RABBITMQ_URL (RabbitMQ: {NO_LOGIN})"),
    ],
)
async def test_what_the_broker_said_is_told_at_once(connect: Connect, code: int, text: str, at: str, says: str) -> None:
    async with serving(refusing(code, text, at=at)) as served:
        assert says in await said(connect, f"amqp://user:pass-word@127.0.0.1:{served.port}/nope")
        assert served.connections == 1


@WAYS
async def test_a_certificate_that_is_refused_is_named_with_what_is_wrong(connect: Connect, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    old, old_key = certificate(tmp_path / "old", days=-2)
    login = "amqps://user:pass-word@"
    async with serving(answering(b""), tls(cert, key)) as served, serving(answering(b""), tls(old, old_key)) as expired:
        assert "certificate is refused: self-signed" in await said(connect, f"{login}127.0.0.1:{served.port}/")
        named = f"{login}127.0.0.1:{expired.port}/?cafile={old}"
        assert "certificate is refused: certificate has expired" in await said(connect, named)
        cert, key = certificate(tmp_path, "broker.example")
        other = f"{login}localhost:{served.port}/?cafile={tmp_path / 'localhost.pem'}"
        async with serving(answering(b""), tls(cert, key)) as named_otherwise:
            other = f"{login}localhost:{named_otherwise.port}/?cafile={cert}"
            assert "Hostname mismatch" in await said(connect, other)


@WAYS
async def test_a_broker_that_wants_a_certificate_of_ours(connect: Connect, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    with handshaking(tls(cert, key, clients_of=cert)) as port:
        line = await said(connect, f"amqps://user:pass-word@127.0.0.1:{port}/?cafile={cert}")
    assert "the broker refuses our certificate (TLSV13_ALERT_CERTIFICATE_REQUIRED); check certfile and keyfile" in line


@WAYS
@pytest.mark.parametrize(
    ("scheme", "words", "says"),
    [
        ("amqps", b"AMQP\x00\x00\x09\x01", "no TLS is spoken there; write amqp://"),
        ("amqp", b"\x15\x03\x01\x00\x02\x02\x46", "TLS is spoken there; write amqps://"),
        ("amqp", b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n", "speaks no AMQP 0-9-1"),
        ("amqp", b"AMQP\x00\x01\x00\x00", "speaks no AMQP 0-9-1"),
    ],
)
async def test_the_wrong_port_is_told(connect: Connect, scheme: str, words: bytes, says: str) -> None:
    async with serving(answering(words)) as served:
        assert says in await said(connect, f"{scheme}://user:pass-word@127.0.0.1:{served.port}/")


@WAYS
async def test_files_of_the_url_that_cannot_be_read(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    for name, says in (("none.pem", "cannot be read: No such file"), ("text.pem", "is no certificate or key of it")):
        line = await said(connect, f"amqps://user:pass-word@127.0.0.1:1/?cafile={tmp_path / name}")
        assert f"a file of RABBITMQ_URL (cafile, certfile, keyfile) {says}" in line


async def test_a_limit_that_is_reached_may_pass_and_is_tried_again() -> None:
    async with serving(refusing(530, LIMIT, at="vhost")) as served:
        with pytest.raises(BrokerUnreachableError, match=r"cannot be reached .* limit"):
            async with contact(Secret(f"amqp://u:pass-word@127.0.0.1:{served.port}/"), within_s=1.5):
                pass
        assert served.connections > 1


async def test_a_probe_says_it_and_asks_again_later(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with serving(refusing(403, NO_LOGIN, at="login")) as served:
        probe = DepthProbe(f"amqp://user:pass-word@127.0.0.1:{served.port}/", "jobs")
        assert await probe.ready() is None
        assert probe.retry_in_s > 0
        await probe.close()
    assert "queue depth of jobs is unknown: login refused; check user and password" in caplog.text


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


CONNECT = aiormq_errors.AMQPConnectionError
PASSING: list[Exception] = [
    CONNECT(111, "Connect call failed ('127.0.0.1', 5672)"),
    caused(CONNECT(111, "no"), ConnectionRefusedError(111, "no")),
    caused(CONNECT(1, "no route"), PermissionError(1, "Operation not permitted")),
    caused(CONNECT("closed"), ssl.SSLEOFError(8, "EOF occurred in violation of protocol")),
    CONNECT("Server connection unexpectedly closed. Read 0 bytes but 7 bytes expected"),
    aiormq_errors.ConnectionClosed(320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"),
    aiormq_errors.ConnectionInternalError("INTERNAL_ERROR - access to vhost '/' refused for user 'u': vhost is down"),
    aiormq_errors.ConnectionClosed(530, LIMIT),
    aiormq_errors.ConnectionNotAllowed(
        "NOT_ALLOWED - Connection refused for user 'u': user connection limit (1) is reached"
    ),
    aiormq_errors.ChannelNotFoundEntity("NOT_FOUND - no queue 'vhost' in vhost '/'"),
    aiormq_errors.ChannelPreconditionFailed("PRECONDITION_FAILED - inequivalent arg 'x' for queue 'vhost'"),
    TimeoutError(),
    OSError("vhost"),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: f"{type(error).__name__}-{error}"[:60])
def test_what_may_pass_is_no_refusal(error: Exception) -> None:
    assert refusal(error) is None
    assert describe(error)


REFUSED: list[tuple[Exception, str]] = [
    (aiormq_errors.ConnectionClosed(530, NO_VHOST), "vhost refused"),
    (aiormq_errors.ConnectionNotAllowed(NO_VHOST), "vhost refused"),
    (aiormq_errors.ConnectionClosed(403, NO_LOGIN), "login refused"),
    (aiormq_errors.ProbableAuthenticationError("no"), "login refused"),
    (aiormq_errors.AuthenticationError("GSSAPI", ["PLAIN"]), "login refused: RabbitMQ offers none"),
    (aiormq_errors.ChannelAccessRefused("ACCESS_REFUSED - read access to queue 'q' refused"), "lacks a right"),
    (NotAmqpError("speaks no AMQP"), "speaks no AMQP"),
    (PermissionError(13, "Permission denied"), "cannot be read: Permission denied"),
    (
        caused(CONNECT(1, "x"), ssl.SSLError(1, "[SSL: NO_PROTOCOLS_AVAILABLE] no")),
        "no TLS connection can be agreed on",
    ),
]


@pytest.mark.parametrize(("error", "says"), REFUSED, ids=map(str, range(len(REFUSED))))
def test_what_trying_again_cannot_change_is_a_refusal_in_words(error: Exception, says: str) -> None:
    assert says in (refusal(error) or "")
    assert describe(error) == refusal(error)


def test_a_number_is_no_word_of_an_error() -> None:
    assert describe(CONNECT(111, "Connect call failed")) == "Connect call failed"
    assert describe(TimeoutError()) == "no answer in time"
    assert asyncio.TimeoutError is TimeoutError
