"""A server that speaks AMQP 0-9-1 just far enough to refuse a connection, with TLS or without."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pamqp.frame
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pamqp import commands as spec

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@dataclass
class Served:
    """Where it listens, and how many connections have come."""

    port: int = 0
    connections: int = 0


def refusing(code: int, text: str, *, at: str) -> Talk:
    """Ends the handshake with connection.close, at the `login` or at the `vhost`."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        start = spec.Connection.Start(mechanisms="PLAIN", locales="en_US", server_properties={"product": "RabbitMQ"})
        _send(writer, start)
        await _frame(reader)
        if at == "vhost":
            _send(writer, spec.Connection.Tune(10, 131072, 10))
            await _frame(reader)
            await _frame(reader)
        _send(writer, spec.Connection.Close(code, text, 10, 40))
        await reader.read()

    return talk


def answering(words: bytes) -> Talk:
    """Says this whatever comes, and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(words)
        await writer.drain()

    return talk


@asynccontextmanager
async def serving(talk: Talk, context: ssl.SSLContext | None = None) -> AsyncIterator[Served]:
    """Serves on loopback."""
    served = Served()

    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(joined, "127.0.0.1", 0, ssl=context)
    served.port = server.sockets[0].getsockname()[1]
    async with server:
        yield served


@contextmanager
def handshaking(context: ssl.SSLContext) -> Iterator[int]:
    """Only shakes hands, and tells a client why it is refused, as Erlang does it and asyncio does not; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:  # closed
                return
            secure = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            with secure, contextlib.suppress(OSError):
                with contextlib.suppress(ssl.SSLError):
                    secure.do_handshake()
                socket.socket.shutdown(secure, socket.SHUT_WR)
                while socket.socket.recv(secure, 4096):  # unread bytes would become a reset, which loses the alert
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def certificate(
    folder: Path, name: str = "localhost", *, days: int = 1, by: tuple[Path, Path] | None = None
) -> tuple[Path, Path]:
    """A certificate for `name` and loopback, and its key; `days` until it expires, negative: ago.

    `by`: certificate and key of the CA that signs it; without one it signs itself, and is a CA.
    """
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else x509.load_pem_x509_certificate(by[0].read_bytes()).subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .sign(key if by is None else _key(by[1]), hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    return paths


def _key(file: Path) -> ec.EllipticCurvePrivateKey:
    found = serialization.load_pem_private_key(file.read_bytes(), None)
    assert isinstance(found, ec.EllipticCurvePrivateKey)
    return found


def tls(certfile: Path, keyfile: Path, *, clients_of: Path | None = None) -> ssl.SSLContext:
    """A server's side of TLS; `clients_of`: it asks each client for a certificate of this CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certfile, keyfile)
    if clients_of is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients_of)
    return context


def _send(writer: asyncio.StreamWriter, frame: Any) -> None:
    writer.write(pamqp.frame.marshal(frame, 0))


async def _frame(reader: asyncio.StreamReader) -> None:
    head = await reader.readexactly(7)
    await reader.readexactly(int.from_bytes(head[3:7], "big") + 1)
