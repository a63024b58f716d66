"""A real headless Chromium for a test, spoken to over the DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.kit.eventually import eventually

QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--remote-debugging-port=0",
)
ANSWER_WITHIN_S = 30.0


class Tab:
    """One page. `errors`: what its console and its scripts complained about; `requests`: every address it asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        """One command of the protocol and its result."""
        number = next(self._numbers)
        answered = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(ANSWER_WITHIN_S):
            answer = await answered
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    async def open(self, url: str) -> None:
        """Goes to a page and waits until it has loaded."""
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await self._loaded.wait()

    async def run(self, script: str) -> Any:
        """The JSON value of an expression in the page; a promise is awaited."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def look_like(self, *, width: int, height: int = 900, dark: bool = False, phone: bool = False) -> None:
        """The size of the window in CSS pixels, and whether the user likes it dark."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def point_at(self, x: float, y: float) -> None:
        """Moves the mouse there."""
        await self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    async def screenshot(self, *, whole: bool = False) -> bytes:
        """A PNG of what is seen, or of the whole page."""
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    async def close(self) -> None:
        """Ends the conversation."""
        await self._socket.close()
        await self._reader

    async def _read(self) -> None:
        async for message in self._socket:
            seen = message.json()
            if "id" in seen:
                self._answers.pop(seen["id"]).set_result(seen)
            else:
                self._note(seen["method"], seen["params"])

    def _note(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.errors.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.errors.append(str(params["entry"]["text"]))


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Tab]:
    """A fresh Chromium with a profile of its own and one empty tab; ended afterwards."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "chromium is missing: `apt-get install chromium` (`make test` does it)"
    profile = Path(tempfile.mkdtemp(prefix="rabbitray-chromium-"))
    process = await asyncio.create_subprocess_exec(
        program,
        *QUIET,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(profile)},  # it leaves a folder behind when it is ended
    )
    try:
        async with contextlib.AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            socket = await stack.enter_async_context(session.ws_connect(await _page(session, profile), max_msg_size=0))
            tab = Tab(socket)
            stack.push_async_callback(tab.close)
            for domain in ("Page", "Runtime", "Network", "Log"):
                await tab.call(f"{domain}.enable")
            yield tab
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        shutil.rmtree(profile, ignore_errors=True)


async def _page(session: aiohttp.ClientSession, profile: Path) -> str:
    """The address of the tab's socket. Chromium writes the port that it chose into its profile."""

    async def port() -> str:
        written = profile / "DevToolsActivePort"
        return written.read_text().partition("\n")[0] if written.exists() else ""

    async def target() -> str:
        async with session.get(f"http://127.0.0.1:{await port()}/json/list") as answer:
            pages = [one for one in await answer.json() if one["type"] == "page"]
        return str(pages[0]["webSocketDebuggerUrl"]) if pages else ""

    await eventually(port, within_s=30.0, message="Chromium did not start")
    return await eventually(target, within_s=30.0, message="Chromium has no tab")
