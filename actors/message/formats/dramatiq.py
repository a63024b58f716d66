"""Dramatiq's messages, as its JSON encoder writes them. Pure.

The payload is `{"args": [...], "kwargs": {...}, "options": {...}}`; the actor is the message type, its message id the
key. A message that others are to follow (a pipeline, a group with callbacks, `on_success`, `on_failure`) is refused, as
to run it alone would be half of the work.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.formats.decoded import Decoded
from rabbitray.actors.message.formats.fields import Document, count, require_list, require_map, require_text
from rabbitray.actors.message.job import MAX_RETRY_COUNT
from rabbitray.actors.message.message import Message
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.message.wire.documents import parse

_FOLLOWING: Final = ("pipe_target", "group_completion_callbacks", "on_success", "on_failure")


def read_message(body: bytes, message: Message, limits: MessageLimits) -> Decoded:
    """The message; DecodeError where it is none."""
    document = parse(body, limits)
    if not isinstance(document, dict) or not {"actor_name", "message_id", "args", "kwargs"} <= document.keys():
        raise DecodeError("no_dramatiq_message", "no document with actor_name, message_id, args and kwargs")
    name = require_text(document["actor_name"], "actor_name")
    options = require_map(document.get("options") or {}, "options")
    follows = [one for one in _FOLLOWING if options.get(one)]
    if follows:
        text = f"{name[:200]} has {', '.join(follows)}: nothing of that would be done here"
        raise DecodeError("dramatiq_composition", text)
    return Decoded(
        payload={
            "args": require_list(document["args"], "args"),
            "kwargs": dict(require_map(document["kwargs"], "kwargs")),
            "options": dict(options),
        },
        key=require_text(document["message_id"], "message_id"),
        message_type=name,
        scheduled_at=_eta(options),
        timestamp_ms=_ms(document.get("message_timestamp")),
        retry_count=min(count(options.get("retries"), "retries"), MAX_RETRY_COUNT),
    )


def _eta(options: Document) -> datetime | None:
    """When a delayed message is due; Dramatiq has it in milliseconds."""
    if options.get("eta") is None:
        return None
    try:
        return datetime.fromtimestamp(count(options["eta"], "eta") / 1_000, UTC)
    except (ValueError, OverflowError, OSError):
        raise DecodeError("bad_time", "eta: Unix milliseconds") from None


def _ms(value: Any) -> int | None:  # Any: whatever a producer wrote
    return None if value is None else count(value, "message_timestamp")
