"""The demo's handler: writes a greeting and waits about as long as a mail server on the same site would."""

from __future__ import annotations

import asyncio

from rabbitray.actors.errors import Reject
from rabbitray.actors.message.job import Job

MAIL_S = 0.04


async def greet(job: Job) -> dict[str, str]:
    """The greeting for one birthday or anniversary job."""
    await asyncio.sleep(MAIL_S)
    person = job.payload or {}
    match job.message_type:
        case "BIRTHDAY":
            text = f"Happy birthday, {person.get('name', 'you')}! {person.get('years', 'Many')} looks good on you."
        case "ANNIVERSARY":
            text = f"{person.get('years', 'Many')} years already, {person.get('name', 'friend')}: congratulations!"
        case other:
            raise Reject(f"no greeting for message type {other!r}")
    return {"to": job.user_id or "", "text": text}
