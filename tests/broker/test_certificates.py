"""TLS with a real node: a CA of one's own, a client's certificate as its login, and what is refused in one line."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rabbitray.actors.errors import BrokerUnreachableError
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.publisher import Publisher
from rabbitray.actors.rabbitmq.depth import DepthProbe
from rabbitray.actors.rabbitmq.inspect import contact, place_of
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.secret import Secret
from rabbitray.cluster.broker import PrivateBroker
from tests.kit.eventually import eventually
from tests.kit.publishing import QUEUE, config
from tests.kit.refusing_server import certificate

pytestmark = pytest.mark.long

WITHIN_S = 30.0
AT_ONCE_S = 15.0
"""Less than `WITHIN_S`, by so much that a busy machine does not come near it."""


@dataclass(frozen=True)
class SecureNode:
    """A node that speaks TLS. Each URL is of one who shows other files, or logs in in another way."""

    broker: PrivateBroker
    port: int
    ca: Path
    folder: Path

    def url(self, login: str = "", **parameters: object) -> str:
        """With these parameters, the CA's file among them unless it is None."""
        given = {"cafile": self.ca} | parameters
        query = "&".join(f"{name}={value}" for name, value in given.items() if value is not None)
        return f"amqps://{login}127.0.0.1:{self.port}/?{query}"

    def as_user(self, name: str, by: str = "ca", **parameters: object) -> str:
        """Shows a certificate for `name`, signed by that CA."""
        signer = certificate(self.folder / by, "ca") if by != "ca" else (self.ca, self.ca.with_suffix(".key"))
        shown, key = certificate(self.folder / by, name, by=signer)
        return self.url(certfile=shown, keyfile=key, **parameters)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureNode]:
    folder = tmp_path_factory.mktemp("certificates")
    ca = certificate(folder / "ca", "ca")
    served, key = certificate(folder, "localhost", by=ca)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines = f"""
        listeners.ssl.1 = 127.0.0.1:{port}
        ssl_options.cacertfile = {ca[0]}
        ssl_options.certfile = {served}
        ssl_options.keyfile = {key}
        ssl_options.verify = verify_peer
        ssl_options.fail_if_no_peer_cert = false
        auth_mechanisms.1 = EXTERNAL
        auth_mechanisms.2 = PLAIN
        ssl_cert_login_from = common_name
    """
    conf = "\n".join(line.strip() for line in lines.splitlines())
    with PrivateBroker(configuration=conf, plugins=("rabbitmq_auth_mechanism_ssl",)) as broker:
        broker.api("PUT", "/api/users/worker", {"password_hash": "", "tags": ""})
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        broker.api("PUT", "/api/permissions/%2F/worker", everything)
        yield SecureNode(broker, port, ca[0], folder)


async def test_a_certificate_is_the_login_of_everyone_who_connects(node: SecureNode) -> None:
    """The user is the certificate's common name; he has no password."""
    url = node.as_user("worker", auth="external")
    got: list[Delivery] = []
    intake = Intake(
        IntakeConfig(url=Secret(url), topology=Topology(queue=QUEUE), limits=MessageLimits()),
        on_delivery=got.append,
        on_lost=lambda _: None,
    )
    probe = DepthProbe(Secret(url), QUEUE)
    async with contact(Secret(url), within_s=WITHIN_S) as connection:
        assert place_of(connection) == f"amqps://127.0.0.1:{node.port}/"
    try:
        await intake.open()
        async with Publisher(config(url)) as publisher:
            await publisher.publish(Job())
        assert await probe.ready() == 1
        await intake.consume(10)
        assert await eventually(lambda: got, within_s=20)
        assert intake.address == f"127.0.0.1:{node.port}/"
    finally:
        await probe.close()
        await intake.close()


async def test_a_password_over_tls_needs_the_ca_alone(node: SecureNode) -> None:
    async with contact(Secret(node.url("guest:guest@")), within_s=WITHIN_S):
        pass


async def refused(url: str) -> str:
    """What a command says, which must not have tried for long."""
    began = time.monotonic()
    with pytest.raises(BrokerUnreachableError) as found:
        async with contact(Secret(url), within_s=WITHIN_S):
            pass
    assert time.monotonic() - began < AT_ONCE_S
    assert len(str(found.value).splitlines()) == 1
    return str(found.value)


async def test_what_is_refused_is_said_at_once(node: SecureNode) -> None:
    assert "the broker's certificate is refused" in await refused(node.url("guest:guest@", cafile=None))
    assert "the broker refuses our certificate" in await refused(node.as_user("worker", by="other", auth="external"))
    assert "login refused" in await refused(node.url(auth="external"))
    assert "login refused" in await refused(node.as_user("nobody", auth="external"))
    gone = node.url(certfile=node.folder / "gone", keyfile=node.folder / "gone", auth="external")
    assert "a file of RABBITMQ_URL (cafile, certfile, keyfile) cannot be read" in await refused(gone)


async def test_a_node_that_takes_no_certificates_says_so(amqp_url: str) -> None:
    assert "offers none of the mechanisms that we know; check `auth`" in await refused(f"{amqp_url}?auth=external")
