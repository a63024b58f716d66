"""`python -m bench.collector`: an OTLP/HTTP endpoint that takes everything and keeps nothing, at the least cost.

Prints its port and runs until its standard input ends, so it never outlives the bench that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


@contextlib.contextmanager
def collector() -> Iterator[str]:
    """The base URL of a collector in a process of its own."""
    command = [sys.executable, "-m", "bench.collector"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """The base URL of a collector that is down: its port is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """The base URL of a black hole: the kernel takes connections and bytes, and nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1_024) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


async def _take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            writer.write(ANSWER)
            await writer.drain()
    writer.close()


async def _main() -> None:
    server = await asyncio.start_server(_take, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main())
