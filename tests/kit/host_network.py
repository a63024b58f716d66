"""Sockets in the network of a host: what the test run itself says to it, and what a host may reach of the machine."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import http.client
import json
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from tests.kit.hosts import Host

T = TypeVar("T")
_CLONE_NEWNET: Final = 0x40000000


def in_network_of(host: Host, make: Callable[[], T]) -> T:
    """Calls `make` in the network of a host; a socket that it makes stays there."""
    with ThreadPoolExecutor(1) as thread:  # of its own: `setns` changes the thread for good
        return thread.submit(_entered, host.pid, make).result()


def _entered(pid: int, make: Callable[[], T]) -> T:
    with open(f"/proc/{pid}/ns/net") as network:
        if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return make()


def get_json(host: Host, port: int, path: str, token: str) -> Any:  # Any: whatever the server answers
    """What a server on the host's loopback answers to a GET with a bearer token. OSError when it does not."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.sock = in_network_of(host, lambda: socket.create_connection(("127.0.0.1", port), timeout=10))
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise OSError(f"{path}: {answer.status}")
        return json.loads(answer.read())


class Relay:
    """A port of a host that leads to a port of the machine's loopback. While nobody listens there, it only hangs up.

    Cut, it is a line on which nothing arrives any more, on either side, until it is plugged in again.
    """

    def __init__(self, host: Host, port: int, target: int) -> None:
        self._target = target
        self._whole = asyncio.Event()
        self._whole.set()
        listener = in_network_of(host, lambda: socket.create_server((host.address, port)))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._serve(listener), self._loop).result()

    async def _serve(self, listener: socket.socket) -> asyncio.Server:
        return await asyncio.start_server(self._join, sock=listener)

    async def _join(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        with contextlib.closing(near_out), contextlib.suppress(ConnectionError):
            far, far_out = await asyncio.open_connection("127.0.0.1", self._target)
            with contextlib.closing(far_out):
                await asyncio.gather(self._pump(near, far_out), self._pump(far, near_out))

    def cut(self) -> None:
        """Nothing arrives any more; nobody is told."""
        self._loop.call_soon_threadsafe(self._whole.clear)

    def plug(self) -> None:
        """What was sent meanwhile arrives, as TCP would send it again."""
        self._loop.call_soon_threadsafe(self._whole.set)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    def close(self) -> None:
        """Hangs up everywhere."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
