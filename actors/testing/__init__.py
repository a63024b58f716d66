"""The test kit: a handler over messages as a worker runs it (decode, run, judge), with no broker and no Ray.

work, work_async are here, and imported from `rabbitray.testing`, which shows an example.

messages    1. what `work` takes -> parcels
properties  1. what AMQP says of a message beside its body
bench       2. one worker; what a pool would do with its outcomes is computed, not done
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final, Unpack, get_args

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.keys import DEFAULT_RULE, parse_key_rule
from rabbitray.actors.message.message import Message
from rabbitray.actors.message.wire import MessageFormat, UnknownContentType
from rabbitray.actors.testing.bench import Bench, KitSettings, Outcome
from rabbitray.actors.testing.messages import parcel_of
from rabbitray.actors.worker.handler.loading import Handler, load, prepare
from rabbitray.actors.worker.handler.shape import Function

__all__ = ["KitSettings", "Message", "Outcome", "work", "work_async"]


def work(
    handler: str | Function | type,
    messages: Iterable[Job | Message | Mapping[str, Any] | bytes],  # Any: a JSON document
    **settings: Unpack[KitSettings],
) -> list[Outcome]:
    """Runs a handler over messages and returns one outcome for each job, in the order of the messages.

    - `handler`: `module:attr`, a function, or a class, which is set up before and closed after as in a worker.
    - `messages`: a Job is encoded as our publisher does, a mapping is a JSON document of another producer, bytes are
      msgpack; a Message says body, properties and headers itself, our own headers included (`x-rabbitray-key`,
      `x-rabbitray-attempt`), which its handler does not get to see.
    - `settings`: see KitSettings.

    Raises HandlerLoadError; ConfigurationError for a setting that does not exist, or cannot be; EncodeError for a job
    that cannot be sent; TimeoutError when a synchronous handler finishes no job for `handler_timeout_s` (a pool would
    kill its worker); and whatever the handler's set-up raises. Inside a running event loop, await `work_async` instead.
    """
    return asyncio.run(work_async(handler, messages, **settings))


async def work_async(
    handler: str | Function | type,
    messages: Iterable[Job | Message | Mapping[str, Any] | bytes],  # Any: a JSON document
    **settings: Unpack[KitSettings],
) -> list[Outcome]:
    """As `work`, for a test that is itself a coroutine."""
    _require_known(settings)
    _require_several(messages)
    rule = parse_key_rule(settings.get("key", DEFAULT_RULE.text))
    parcels = [parcel_of(message, rule) for message in messages]
    bench = Bench(_handler(handler), settings, rule)
    try:
        return await bench.work(parcels)
    finally:
        await bench.close()


def _handler(handler: str | Function | type) -> Handler:
    if isinstance(handler, str):
        return load(handler)
    return prepare(handler, getattr(handler, "__qualname__", type(handler).__name__))


def _require_several(messages: object) -> None:
    """A mapping or bytes could be gone through, too, as something that nobody meant."""
    if isinstance(messages, Job | Message | Mapping | bytes | str):
        raise ConfigurationError(f"the test kit: messages are a list, not one {type(messages).__name__}; write [...]")


def _require_known(settings: KitSettings) -> None:
    """That each setting exists, and is one of its words where it has words."""
    for name in settings.keys() - KitSettings.__annotations__.keys():
        raise ConfigurationError(f"the test kit has no setting {name}{_near(name, KitSettings.__annotations__)}")
    for name, words in _WORDS.items():
        if (value := settings.get(name, words[0])) not in words:
            text = f"the test kit: {name} {value!r} must be one of {', '.join(words)}"
            raise ConfigurationError(f"{text}{_near(str(value), words)}")
    if not isinstance(key := settings.get("key", ""), str):
        raise ConfigurationError(f"the test kit: key is text, not {type(key).__name__}")


_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "missing_id": ("allow", "reject"),
    "message_format": get_args(MessageFormat),
    "unknown_content_type": get_args(UnknownContentType),
}


def _near(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, list(names), 1)
    return f"; did you mean {near[0]}?" if near else ""
