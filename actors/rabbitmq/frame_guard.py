"""Stands between a connection's bytes and aiormq, so that nothing a stranger wrote is decoded by pamqp.

pamqp raises for a time stamp beyond the year 9999, a name that is not UTF-8 or a table that is too deep, and aiormq
then closes the connection: the message comes again, for ever. So each content header is replaced by one that holds the
properties of the message as a single byte array, which `original` reads again; and the exchange and routing key
of a delivery are made ASCII where they are no UTF-8.

It also keeps what aiormq drops: why the broker refused a connection, and that what answers speaks no AMQP.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from aiormq.connection import TransportFactory, exception_by_code
from aiormq.exceptions import AMQPConnectionError, AMQPError
from pamqp.commands import Connection
from yarl import URL

from rabbitray.actors.message.properties.property_list import Properties, from_raw
from rabbitray.actors.rabbitmq.errors import NotAmqpError

log = logging.getLogger(__name__)

STREAM_BYTES = 1024 * 1024

_METHOD, _HEADER = 1, 2  # kinds of frames
_HEAD: Final = 7  # bytes of a frame before its payload: kind, channel, length
_END: Final = 1  # byte, behind the payload of a frame
_FIXED: Final = 12  # bytes of a content header before its properties: class, weight, size of the body
_SIZE = struct.Struct(">I")
_RAW: Final = "properties"
_ONLY_HEADERS: Final = b"\x20\x00"
_RAW_ENTRY: Final = bytes([len(_RAW)]) + _RAW.encode() + b"x"
_KINDS: Final = frozenset({0, _METHOD, _HEADER, 3, 8})  # 0: nothing came; the others: of frames
_TLS_ALERT: Final = 0x15
_CLOSE: Final = b"\x00\x0a\x00\x32"  # the broker ends the connection
_DELIVER, _GET_OK = b"\x00\x3c\x00\x3c", b"\x00\x3c\x00\x47"


def original(properties: Any) -> Properties:  # Any: what pamqp made of a content header that was replaced here
    """The properties of a message that came over a guarded connection."""
    return from_raw(properties.headers[_RAW])


def replaced(header: bytes) -> bytes:
    """The payload of a content header with its properties as one byte array."""
    raw = header[_FIXED:]
    entry = _RAW_ENTRY + _SIZE.pack(len(raw)) + raw
    return b"".join((header[:_FIXED], _ONLY_HEADERS, _SIZE.pack(len(entry)), entry))


def decodable(method: bytes) -> bytes:
    """The payload of a method frame, of the same length, with an exchange and a routing key that can be decoded."""
    if method[:4] == _DELIVER:
        at = (
            5 + (method[4] if len(method) > 4 else 0) + 9
        )  # behind the consumer tag, the delivery tag and whether it is redelivered
    elif method[:4] == _GET_OK:
        at = 4 + 9
    else:
        return method
    for _ in range(2):
        if at >= len(method):
            break
        end = at + 1 + method[at]
        text = method[at + 1 : end]
        method = method[: at + 1] + _decodable(text) + method[end:]
        at = end
    return method


def _decodable(text: bytes) -> bytes:
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode("ascii", "replace").encode("ascii", "replace")
    return text


class GuardedReader:
    """What aiormq reads from instead of a StreamReader. It reads a frame in three steps; the first two are read as one
    here, which takes less time than the guard does.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._step = 0
        self._kind = 0
        self._head = b""  # what the second step reads
        self._content: bytes | None = None  # of a frame that was replaced: its payload and end
        self._method = b""  # the last method frame

    def at_eof(self) -> bool:
        """Whether nothing more can come."""
        return self._reader.at_eof()

    async def read(self, count: int = -1) -> bytes:
        """Whatever is here, up to `count` bytes (-1: all)."""
        return await self._reader.read(count)

    async def readexactly(self, count: int) -> bytes:
        """As StreamReader does it, with other bytes where they are a stranger's."""
        step = self._step
        if step == 0:
            self._step = 1
            first = await self._reader.readexactly(_HEAD)
            self._kind, self._head = first[0], first[1:]
            return first[:1]
        if step == 1:
            self._step = 2
            return await self._replace(self._head) if self._kind == _HEADER else self._head
        self._step = 0
        if self._kind == _HEADER and self._content is not None:
            content, self._content = self._content, None
            return content
        found = await self._reader.readexactly(count)
        if self._kind != _METHOD:
            return found
        self._method = found
        return decodable(found)

    def reason(self) -> AMQPError | None:
        """Why the broker refuses this connection, as its last frame says; None where it says nothing."""
        if self._kind == _TLS_ALERT:
            return NotAmqpError("TLS is spoken there; write amqps://, or the broker's plain port (5672)")
        if self._kind not in _KINDS:
            return NotAmqpError(
                "what answers there speaks no AMQP 0-9-1; RabbitMQ's ports are 5672 (amqp) and 5671 (amqps)"
            )
        if self._method[:4] != _CLOSE:
            return None
        code, length = int.from_bytes(self._method[4:6]), self._method[6]
        return exception_by_code(Connection.Close(code, self._method[7 : 7 + length].decode("utf-8", "replace")))

    async def _replace(self, head: bytes) -> bytes:
        """Reads the frame whose channel and length `head` is; returns the head of the one that aiormq shall have."""
        (size,) = _SIZE.unpack_from(head, 2)
        frame = await self._reader.readexactly(size + _END)
        if size < _FIXED:  # no content header: aiormq says so
            self._content = frame
            return head
        payload = replaced(frame[:-_END])
        self._content = payload + frame[-_END:]
        return head[:2] + _SIZE.pack(len(payload))


class GuardedTransports(TransportFactory):
    """Transports of a connection, TLS where it is `secure`, with a GuardedReader in front. One for each connection."""

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure
        self._guard: GuardedReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @contextmanager
    def opening(self) -> Iterator[None]:
        """For a block that opens a connection: what the broker said, where aiormq tells only that it said another
        thing than was expected."""
        try:
            yield
        except AMQPError as error:
            reason = self._guard.reason() if self._guard is not None else None
            if reason is None or isinstance(error, type(reason)):
                raise
            raise reason from error

    @contextmanager
    def closing_within(self, within_s: float) -> Iterator[None]:
        """For a block that closes the connection: what the broker has not taken within `within_s` seconds is dropped.

        A broker in alarm reads nothing of a publisher; aiormq would wait for it, also where its `close` is cancelled.
        """
        dropping = asyncio.get_running_loop().call_later(within_s, self._drop, within_s)
        try:
            yield
        finally:
            dropping.cancel()

    def _drop(self, after_s: float) -> None:
        if self._writer is not None:
            log.warning("The broker did not answer the closing of a connection within %g s", after_s)
            self._writer.transport.abort()

    async def create(self, url: URL, **options: Any) -> tuple[Any, asyncio.StreamWriter]:  # Any: duck-typed reader
        """What aiormq reads from and writes to."""
        provider = options.pop("ssl_context_provider")
        context = await provider.get_context() if self._secure else None
        try:
            reader, self._writer = await self.streams(url, context, **options)
        except OSError as error:  # as aiormq's own transports do
            raise AMQPConnectionError(*error.args) from error
        self._guard = GuardedReader(reader)
        return self._guard, self._writer

    async def streams(
        self,
        url: URL,
        context: ssl.SSLContext | None,
        **options: Any,  # Any: of `asyncio.create_connection`
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The two ends of a connection that is open; `context`: for TLS. Raises OSError."""
        return await asyncio.open_connection(url.host, url.port, ssl=context, limit=STREAM_BYTES, **options)


def transports_for(url: URL) -> GuardedTransports:
    """Guarded transports of the kind that the URL asks for."""
    return GuardedTransports(secure=url.scheme == "amqps")
