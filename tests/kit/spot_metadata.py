"""The part of AWS's instance metadata that tells a spot instance its end, with session tokens (IMDSv2)."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

TOKEN: Final = "a-session-token"


class SpotMetadata(ThreadingHTTPServer):
    """404 until `takes_back_at` is set, an ISO 8601 time; 401 to whoever has no token."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener.getsockname(), Answers, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.takes_back_at: str | None = None
        self.asked = 0

    @property
    def url(self) -> str:
        host, port, *_ = self.socket.getsockname()
        return f"http://{host}:{port}"


class Answers(BaseHTTPRequestHandler):
    """One request."""

    server: SpotMetadata

    def do_PUT(self) -> None:
        fine = self.path == "/latest/api/token" and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
        self._answer(200 if fine else 400, TOKEN)

    def do_GET(self) -> None:
        self.server.asked += 1
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self._answer(401, "")
        elif self.path != "/latest/meta-data/spot/instance-action" or self.server.takes_back_at is None:
            self._answer(404, "")
        else:
            self._answer(200, json.dumps({"action": "terminate", "time": self.server.takes_back_at}))

    def log_message(self, format: str, *args: object) -> None:  # its requests are counted
        pass

    def _answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


@contextmanager
def spot_metadata(listener: socket.socket) -> Iterator[SpotMetadata]:
    """Serves on a socket that listens, until the end."""
    with SpotMetadata(listener) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
