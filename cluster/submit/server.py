"""Ray's job API over HTTP, with a time limit for each request, and the token where it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.printable import printable
from rabbitray.actors.secret import Secret, without_credentials
from rabbitray.cluster.settings.job import JobServerAccess

ANSWER_WITHIN_S: Final = 30.0
UPLOAD_WITHIN_S: Final = 600.0
NO_AGENT: Final = "No available agent"
ENDED: Final = ("SUCCEEDED", "FAILED", "STOPPED")


class NoAnswerError(RabbitrayError):
    """The job server cannot be reached, or gave no answer in time."""


class RefusedError(RabbitrayError):
    """The job server said no; `status`: of HTTP."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """What the job server knows of a job. `exit_code`: of its entrypoint, where it ended by itself."""

    submission_id: str
    status: str
    message: str = ""
    exit_code: int | None = None
    metadata: Mapping[str, str]

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED


class JobServer:
    """The job server at `url` (`http://HOST:PORT`), asked by one process. An async context manager."""

    def __init__(self, url: str, access: JobServerAccess) -> None:
        self.url = url.rstrip("/")
        self._access = access
        self._headers = dict(access.headers)
        self._session: aiohttp.ClientSession | None = None
        if access.always:
            self._use_token()

    async def __aenter__(self) -> Self:
        tracing = aiohttp.TraceConfig()
        tracing.on_request_redirect.append(self._refuse_redirect)
        self._session = aiohttp.ClientSession(trace_configs=[tracing])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ray_version(self, *, within_s: float = ANSWER_WITHIN_S) -> str:
        """The version of its Ray. Raises NoAnswerError for whatever is no job server."""
        answer = await self._ask("GET", "/api/version", within_s=within_s)
        if not isinstance(answer, dict) or "ray_version" not in answer:
            raise NoAnswerError(f"what answers at {self.url} is no job server of Ray")
        return str(answer["ray_version"])

    async def jobs(self) -> list[JobState]:
        """All jobs that were submitted to it."""
        answer = await self._ask("GET", "/api/jobs/")
        return [_state(job) for job in answer if job.get("submission_id")]

    async def job(self, submission_id: str) -> JobState | None:
        """One job; None where there is none."""
        try:
            return _state(await self._ask("GET", f"/api/jobs/{submission_id}"))
        except RefusedError as refused:
            if refused.status == 404:
                return None
            raise

    async def put_package(self, name: str, content: bytes) -> None:
        """Puts a package under `gcs://name` unless it is there; without a job that uses it Ray drops it after 10
        minutes.
        """
        path = f"/api/packages/gcs/{name}"
        try:
            await self._ask("GET", path)
        except RefusedError as refused:
            if refused.status != 404:
                raise
            await self._ask("PUT", path, data=content, within_s=UPLOAD_WITHIN_S)

    async def submit(self, request: Mapping[str, Any]) -> None:  # Any: JSON values
        """Starts a job. Raises RefusedError, whose text begins with NO_AGENT where none is there to start it yet."""
        await self._ask("POST", "/api/jobs/", json=dict(request), within_s=UPLOAD_WITHIN_S)

    async def stop(self, submission_id: str) -> None:
        """Asks a job to end."""
        await self._ask("POST", f"/api/jobs/{submission_id}/stop", json={})

    async def log(self, submission_id: str) -> AsyncIterator[str]:
        """What the job printed so far, from its beginning, and what it prints, in pieces, until it has ended. Raises
        NoAnswerError where the connection breaks.
        """
        assert self._session is not None
        try:
            async with self._session.ws_connect(
                f"{self.url}/api/jobs/{submission_id}/logs/tail", headers=self._headers, heartbeat=20, max_msg_size=0
            ) as socket:
                async for message in socket:
                    if message.type == aiohttp.WSMsgType.TEXT:
                        yield message.data
                    elif message.type == aiohttp.WSMsgType.ERROR:
                        break
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NoAnswerError(f"the job server at {self.url}: {_words(error)}") from error

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        within_s: float = ANSWER_WITHIN_S,
        data: bytes | None = None,
        json: object = None,
    ) -> Any:  # Any: JSON values; None for an answer that is none
        """One request, and once more with the token where the server wants one."""
        status, text, answer = await self._request(method, path, within_s, data, json)
        if status == 401 and not self._has_token and self._access.token is not None:
            self._use_token()
            status, text, answer = await self._request(method, path, within_s, data, json)
        if status in (401, 403):
            raise ConfigurationError(self._no_entry(status))
        if status >= 400:
            raise RefusedError(f"the job server at {self.url}: {_last_line(text) or f'HTTP {status}'}", status)
        return answer

    async def _request(
        self, method: str, path: str, within_s: float, data: bytes | None, json: object
    ) -> tuple[int, str, Any]:  # Any: JSON values
        assert self._session is not None
        try:
            async with self._session.request(
                method,
                self.url + path,
                headers=self._headers,
                data=data,
                json=json,
                timeout=aiohttp.ClientTimeout(total=within_s),
            ) as answer:
                text = await answer.text(errors="replace")
                return answer.status, text, await answer.json() if "json" in answer.content_type else None
        except TimeoutError as late:
            raise NoAnswerError(f"the job server at {self.url} gave no answer within {within_s:g} s") from late
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoAnswerError(f"the job server at {self.url}: {_words(error)}") from error

    async def _refuse_redirect(
        self, session: aiohttp.ClientSession, context: object, redirect: aiohttp.TraceRequestRedirectParams
    ) -> None:
        """Called before a redirect is followed, of a request as of a websocket: secrets and headers would go along."""
        asked = str(redirect.url).removeprefix(self.url)
        to = redirect.response.headers.get("Location", "another address").partition("?")[0].removesuffix(asked)
        raise ConfigurationError(
            f"the job server at {self.url} sends on to {without_credentials(Secret(printable(to)))}; give that one as "
            "--address"
        )

    @property
    def _has_token(self) -> bool:
        return any(name.lower() == "authorization" for name in self._headers)

    def _use_token(self) -> None:
        if self._access.token is not None and not self._has_token:
            self._headers["Authorization"] = f"Bearer {self._access.token.reveal()}"

    def _no_entry(self, status: int) -> str:
        if not self._has_token:
            return (
                f"the Ray at {self.url} asks for a token, and none is here: set RAY_AUTH_TOKEN_PATH (or "
                "RAY_AUTH_TOKEN) to the cluster's"
            )
        source = self._access.token_from or "RAY_JOB_HEADERS"
        return (
            f"the Ray at {self.url} refuses the token from {source} (HTTP {status}); set RAY_AUTH_TOKEN_PATH to its own"
        )


def _state(job: Mapping[str, Any]) -> JobState:  # Any: JSON values
    return JobState(
        submission_id=str(job.get("submission_id") or ""),
        status=str(job.get("status")),
        message=str(job.get("message") or ""),
        exit_code=job.get("driver_exit_code"),
        metadata=job.get("metadata") or {},
    )


def _last_line(text: str) -> str:
    """Ray answers with the traceback of its own process."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _words(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    return _last_line(getattr(error, "strerror", None) or str(error)) or type(error).__name__
