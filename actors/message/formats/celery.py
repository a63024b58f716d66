"""Celery's tasks, message protocol 1 and 2, by its own name for them. Pure.

The payload is `{"args": [...], "kwargs": {...}}`; the name of the task is the message type, its id the key. A task that
others are to follow (callbacks, errbacks, a chain, a chord) is refused: to run it alone would be half of the work. One
of a group is whole: only its result is looked for together with those of the others.
"""

from __future__ import annotations

from typing import Any, Final

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.formats.decoded import Decoded
from rabbitray.actors.message.formats.fields import Document, count, require_list, require_map, require_text, text, time
from rabbitray.actors.message.formats.kombu import read_document
from rabbitray.actors.message.job import MAX_RETRY_COUNT
from rabbitray.actors.message.message import Message
from rabbitray.actors.message.wire import MessageLimits

_FOLLOWING: Final = ("callbacks", "errbacks", "chain", "chord")
_PROTOCOL_2: Final = 3
"""Arguments, keyword arguments, and what follows."""


def read_task(body: bytes, message: Message, limits: MessageLimits) -> Decoded:
    """The task in a message; DecodeError where there is none, or more than one."""
    document, inner = read_document(body, message, limits)
    if isinstance(document, list) and len(document) == _PROTOCOL_2 and "task" in inner.headers:
        args, kwargs, following = document
        said = dict(inner.headers)
        if said.get("id") is None:
            said["id"] = inner.correlation_id
        return _task(args, kwargs, said, following or {})
    if isinstance(document, dict) and "task" in document:
        return _task(document.get("args") or [], document.get("kwargs") or {}, document, document)
    raise DecodeError("no_celery_task", "neither a body of protocol 1, nor one of protocol 2 with its headers")


def _task(args: Any, kwargs: Any, said: Document, following: Any) -> Decoded:  # Any: whatever a producer wrote
    """`said`: what the headers, or the document of protocol 1, say of the task."""
    name = require_text(said.get("task"), "task")
    follows = [one for one in _FOLLOWING if require_map(following, "what follows").get(one)]
    if follows:
        raise DecodeError("celery_canvas", f"{name[:200]} has {', '.join(follows)}: nothing of that would be done here")
    utc = said.get("utc") is not False
    return Decoded(
        payload={"args": require_list(args, "args"), "kwargs": dict(require_map(kwargs, "kwargs"))},
        key=text(said.get("id"), "id") or None,
        message_type=name,
        scheduled_at=time(said.get("eta"), "eta", utc=utc),
        expires_at=time(said.get("expires"), "expires", utc=utc),
        retry_count=min(count(said.get("retries"), "retries"), MAX_RETRY_COUNT),
    )
