"""The decoder of the setting: one of the shipped formats, or the user's function or class, called for each message.

What it raises is the outcome of its message. A decoder that reads for longer than a batch may wait for its first part
gives the rest of the batch back; one that does not return at all is ended with its worker, as a handler is that hangs.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from rabbitray.actors.errors import DecodeError, HandlerLoadError
from rabbitray.actors.message.formats.auto import read_as, whole_or_bare
from rabbitray.actors.message.formats.decoded import Decoder, job_of
from rabbitray.actors.message.formats.named import AUTO, FORMATS, Format, find_format
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.parcel import Parcel
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.message.wire.amqp_value import is_section, section_body
from rabbitray.actors.message.wire.codings import coding_of
from rabbitray.actors.message.wire.compression import plain_body
from rabbitray.actors.secret import NO_SECRETS, Redactor
from rabbitray.actors.telemetry.own_logging import own_logging
from rabbitray.actors.worker.batch.decoding import UndecodedError
from rabbitray.actors.worker.batch.unit import Failed
from rabbitray.actors.worker.fork_guard import ForkGuard
from rabbitray.actors.worker.handler.loading import find_named, set_up
from rabbitray.actors.worker.handler.shape import require_signature
from rabbitray.actors.worker.handler.thread import HandlerThread
from rabbitray.actors.worker.outcome.error_text import describe
from rabbitray.actors.worker.outcome.tracebacks import Tracebacks
from rabbitray.actors.worker.outcome.verdict import Categories, judge

log = logging.getLogger(__name__)

T = TypeVar("T")

_LATE: Final = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)

DECODER_FAILED: Final = "decoder_failed"
_AMQP_1_0: Final = "amqp-1.0"
"""The property `type` of a body that RabbitMQ hands over as an AMQP 1.0 client encoded it."""


def require_decoder(name: str, redact: Redactor = NO_SECRETS) -> None:
    """Raises ConfigurationError, one line, for a decoder that cannot work; nothing is made of it yet."""
    if name in (AUTO, *FORMATS):
        find_format(name)
    else:
        _find(name, redact)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedDecoder:
    """A decoder, ready to be called: a shipped `format`, or the user's `call`."""

    name: str
    format: Format | None = None
    call: Decoder | None = None

    @property
    def asks_message(self) -> bool:
        """Whether it wants the properties of each message."""
        return self.format is None or self.format.asks_message


def load_decoder(name: str, redact: Redactor = NO_SECRETS) -> LoadedDecoder | None:
    """The decoder of the setting, a class already made; None for `auto`.

    Raises as `require_decoder`; an exception of the user's own `__init__` passes through unchanged.
    """
    if name == AUTO:
        return None
    if name in FORMATS:
        return LoadedDecoder(name=name, format=find_format(name))
    return prepare_decoder(_find(name, redact), name, redact)


def prepare_decoder(found: Any, name: str, redact: Redactor = NO_SECRETS) -> LoadedDecoder:  # Any: the user's
    """What is already imported, a class made. Raises as `load_decoder`."""
    _require_usable(found, name)
    if inspect.isclass(found):
        with own_logging():
            found = set_up(f"decoder {name!r}", "made", found, ForkGuard(redact))
    return LoadedDecoder(name=name, call=found)


def _find(name: str, redact: Redactor) -> Any:  # Any: a function or class of the user's
    if ":" not in name:
        near = get_close_matches(name.lower(), (AUTO, *FORMATS), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise HandlerLoadError(f"decoder {name!r} must be {AUTO}, {', '.join(FORMATS)}, or module:attr{hint}")
    found = find_named("decoder", name, redact)
    _require_usable(found, name)
    return found


def _require_usable(found: Any, name: str) -> None:  # Any: whatever stands at the path
    """Raises HandlerLoadError for what is no plain function of body and message, nor a class of such."""
    if not callable(found):
        raise HandlerLoadError(f"decoder {name!r} is of type {type(found).__name__}, not a function or a class")
    if inspect.isclass(found) and not any("__call__" in vars(base) for base in found.__mro__):
        raise HandlerLoadError(f"decoder {name!r} is a class without __call__: define __call__(self, body, message)")
    call = found if inspect.isroutine(found) else getattr(found, "__call__", found)  # noqa: B004 # what is called
    if any(test(one) for test in _LATE for one in (found, call)):
        raise HandlerLoadError(f"decoder {name!r} is async or a generator; a decoder is a plain function")
    if inspect.isclass(found):
        require_signature(found, (), f"decoder {name!r} is a class that is made without arguments")
        require_signature(call, (found, b"", None), f"decoder {name!r} is called with the body and the message")
    else:
        require_signature(call, (b"", None), f"decoder {name!r} is called with the body and the message")


class Reader:
    """ParcelReader: each message through the decoder. `within_s`: how long one batch may be read; `slow_s`: after which
    the log tells where the user's decoder stands.
    """

    def __init__(
        self,
        decoder: LoadedDecoder,
        limits: MessageLimits,
        categories: Categories,
        tracebacks: Tracebacks,
        *,
        within_s: float,
        slow_s: float,
        redact: Redactor = NO_SECRETS,
    ) -> None:
        self._decoder = decoder
        self._limits = limits
        self._categories = categories
        self._tracebacks = tracebacks
        self._within_s = within_s
        self._slow_s = slow_s
        self._redact = redact
        self._guard = ForkGuard(redact)
        self._until = 0.0
        self._thread = HandlerThread("decoder")
        self._reading: str | None = None  # the id of the message that is read now

    @property
    def is_users(self) -> bool:
        """Whether it runs code of the user's."""
        return self._decoder.call is not None

    async def in_its_thread(self, decode: Callable[[list[Parcel]], T], parcels: list[Parcel]) -> T:
        """What `decode` gives, which reads by this reader: the user's code may block, and the event loop has other
        batches. Whoever hangs is told before the router ends its worker.
        """
        reading = asyncio.ensure_future(self._thread.call(decode, parcels))
        done, _ = await asyncio.wait([reading], timeout=self._slow_s)
        if not done:
            stands = self._tracebacks.of_thread(self._thread.ident).replace("\n", " | ")
            log.warning("The decoder reads message %s for %g s: %s", self._reading, self._slow_s, stands)
        return await reading

    def close(self) -> None:
        """Ends its thread after the call that runs now."""
        self._thread.close()

    def has_time(self, read: int) -> bool:
        """See ParcelReader. The first message of a batch is always read."""
        if not read:
            self._until = time.monotonic() + self._within_s
        return not read or not self.is_users or time.monotonic() < self._until

    def read(self, parcel: Parcel) -> Job:
        """See ParcelReader."""
        form, call = self._decoder.format, self._decoder.call
        found = self._shipped(parcel, form) if form is not None else call and self._users(parcel, call)
        return job_of(found, datetime.now(UTC))

    def _shipped(self, parcel: Parcel, form: Format) -> Any:  # Any: a payload, or a Decoded
        body = plain_body(parcel.body, parcel.content_encoding, self._limits)
        if form.unwraps and is_section(body):
            body = _unwrapped(body)
        return read_as(form.read, body, whole_or_bare(parcel), self._limits)

    def _users(self, parcel: Parcel, call: Decoder) -> Any:  # Any: as above
        message = whole_or_bare(parcel)
        body = self._plain(parcel)
        if message.type == _AMQP_1_0 and is_section(body):
            body = _unwrapped(body)
        self._reading = parcel.message_id
        try:
            return copy_context().run(self._guard.call, call, body, message)
        except DecodeError:
            raise
        except BaseException as error:
            raise UndecodedError(self._judged(error)) from error
        finally:
            self._reading = None

    def _plain(self, parcel: Parcel) -> bytes:
        """The body without its compression; one that we do not know at all is left to the user's decoder."""
        unknown = coding_of(parcel.content_encoding).unknown is not None
        return plain_body(parcel.body, "" if unknown else parcel.content_encoding, self._limits)

    def _judged(self, error: BaseException) -> Failed:
        judged = judge(error, self._categories)
        again = judged.verdict == "retry" and judged.category == "transient"
        own = judged.reason in ("rejected", "retry_requested")
        name, text = describe(error, self._redact)
        return Failed(
            verdict="retry" if again else "dead",
            reason=judged.reason if again or own else DECODER_FAILED,
            category=judged.category if again else "permanent",
            after_s=judged.after_s,
            error=text,
            error_class=name,
            exception=error,
            trace=self._tracebacks.of(error),
        )


def _unwrapped(body: bytes) -> bytes:
    value = section_body(body)
    return value if isinstance(value, bytes) else value.encode()
