"""Ray's job server, as a fake that listens on a port of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web


class FakeRay:
    """A job server that answers as Ray does. `wants`: its token; `seen`: the tokens that came; `taken`: packages;
    `jobs`: as it lists them; `asked`: for which jobs it was asked; `refusals`: its answers to that, before it takes
    one, which ends with `code` at once and has printed `log`. `elsewhere`: it sends what has a path that begins so on
    to this URL.
    """

    def __init__(self, wants: str | None = None, *, version: str = "2.60.0", code: int = 0) -> None:
        self.wants = wants
        self.seen: list[str | None] = []
        self.taken: dict[str, bytes] = {}
        self.jobs: list[dict[str, Any]] = []  # Any: JSON values
        self.asked: list[dict[str, Any]] = []
        self.refusals: list[str] = []
        self.log = "one\ntwo\n"
        self.elsewhere: dict[str, str] = {}
        self._version = version
        self._code = code

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its URL."""
        app = web.Application(middlewares=[self.checked])
        app.router.add_get("/api/version", self.version)
        app.router.add_get("/api/packages/gcs/{name}", self.package)
        app.router.add_put("/api/packages/gcs/{name}", self.put)
        app.router.add_get("/api/jobs/", self.list)
        app.router.add_get("/api/jobs/{name}", self.job)
        app.router.add_get("/api/jobs/{name}/logs/tail", self.tail)
        app.router.add_post("/api/jobs/", self.submit)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    @web.middleware
    async def checked(self, request: web.Request, handler: web.Handler) -> web.StreamResponse:
        for path, url in self.elsewhere.items():
            if request.path.startswith(path):
                raise web.HTTPTemporaryRedirect(url + request.path)
        token = request.headers.get("Authorization")
        self.seen.append(token)
        if self.wants is not None and token is None:
            return web.Response(status=401, text="Unauthorized: Missing authentication token")
        if self.wants is not None and token != f"Bearer {self.wants}":
            return web.Response(status=403, text="Forbidden: Invalid authentication token")
        return await handler(request)  # type: ignore[operator, no-any-return] # aiohttp's own type is not callable

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": self._version})

    async def package(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["name"] in self.taken else 404)

    async def put(self, request: web.Request) -> web.Response:
        self.taken[request.match_info["name"]] = await request.read()
        return web.Response()

    async def list(self, request: web.Request) -> web.Response:
        return web.json_response(self.jobs)

    async def job(self, request: web.Request) -> web.Response:
        found = [job for job in self.jobs if job["submission_id"] == request.match_info["name"]]
        return web.json_response(found[0]) if found else web.Response(status=404)

    async def submit(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.asked.append(asked)
        if self.refusals:
            return web.Response(status=500, text=self.refusals.pop(0))
        status = "FAILED" if self._code else "SUCCEEDED"
        name, metadata = asked["submission_id"], asked["metadata"]
        self.jobs.append(
            {"submission_id": name, "status": status, "driver_exit_code": self._code, "metadata": metadata}
        )
        return web.json_response({"job_id": name, "submission_id": name})

    async def tail(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(self.log)
        await socket.close()
        return socket
