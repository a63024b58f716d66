"""Async HTTP calls: one session for each worker, up to QUEUE_CONCURRENCY (32) calls at once.

    GREETING_SERVICE=https://greetings.example rabbitray run --handler docs.examples.http_calls:Greetings

What the service answers decides what becomes of the job: busy or broken is tried again later, after the time that
the service asks for; a refusal is a dead letter at once; a connection error is transient by its class.
"""

from __future__ import annotations

import os
from typing import Any

import aiohttp

from rabbitray import Job, Reject, Retry

BUSY = (408, 425, 429, 500, 502, 503, 504)


class Greetings:
    """Asks a service for a greeting."""

    def setup(self) -> None:
        """Runs once in each worker, before its first job; what it raises is shown by `rabbitray status`."""
        self._service = os.environ["GREETING_SERVICE"]
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, job: Job) -> dict[str, Any]:
        if self._session is None:  # here and not in `setup`: a session belongs to the event loop
            self._session = aiohttp.ClientSession(self._service, timeout=aiohttp.ClientTimeout(total=10))
        # The key makes a second run of the same job harmless, where the service knows such keys.
        headers = {"Idempotency-Key": job.key or ""}
        async with self._session.post("/greet", json=job.payload, headers=headers) as answer:
            if answer.status in BUSY:
                raise Retry(f"the service answered {answer.status}", after_s=_asked_to_wait(answer))
            if answer.status >= 400:
                raise Reject(f"the service answered {answer.status}: {await answer.text()}")
            return {"user": job.user_id, "text": (await answer.json())["text"]}

    async def close(self) -> None:
        """Runs once when the worker ends."""
        if self._session is not None:
            await self._session.close()


def _asked_to_wait(answer: aiohttp.ClientResponse) -> float | None:
    """Seconds of the Retry-After header; None leaves the wait to the ladder (2, 4, 8 ... 60 s)."""
    asked = answer.headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else None
