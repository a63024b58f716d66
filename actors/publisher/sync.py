"""SyncPublisher: the queue writer for synchronous code, from a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from rabbitray.actors.errors import PublisherClosedError, PublisherFullError, PublishTimeoutError
from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher.config import PublisherConfig
from rabbitray.actors.publisher.message import Outgoing, Tracer
from rabbitray.actors.publisher.message_maker import Maker
from rabbitray.actors.publisher.publisher import Publisher
from rabbitray.actors.publisher.report import CloseReport, MeterSink, PublishReport

Reply = concurrent.futures.Future[None]

_GRACE_S = 5.0  # beyond the time-outs of what is waited for


class _Room:
    """A thread with an event loop and a Publisher in it; belongs to the process that started it."""

    def __init__(self, config: PublisherConfig, tracer: Tracer | None, sink: MeterSink | None) -> None:
        self.loop = asyncio.new_event_loop()
        self.publisher = Publisher(config, tracer=tracer, sink=sink)
        self.inbox: deque[tuple[Outgoing, Reply]] = deque()
        self._woken = False
        self._thread = threading.Thread(target=self._work, name="rabbitray-publisher", daemon=True)
        self._thread.start()

    def call(self, coroutine: Any, timeout_s: float) -> Any:  # Any: whatever the coroutine returns
        """Run a coroutine in the thread and return its result; never waits longer than `timeout_s`."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        return future.result(timeout_s)

    def post(self, out: Outgoing, reply: Reply) -> None:
        """Hand a message over; the thread is woken once for all that come before it looks."""
        self.inbox.append((out, reply))
        if not self._woken:
            self._woken = True
            self.loop.call_soon_threadsafe(self._take)

    def end(self) -> None:
        """Stop the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_GRACE_S)

    def _take(self) -> None:
        self._woken = False
        while self.inbox:
            out, reply = self.inbox.popleft()
            if reply.set_running_or_notify_cancel():
                self._admit(out, reply)

    def _admit(self, out: Outgoing, reply: Reply) -> None:
        try:
            if not self.publisher.try_send(out, reply):
                reply.set_exception(PublisherFullError("too many messages are unconfirmed; nothing was sent"))
        except Exception as error:  # noqa: BLE001 # whatever it is, the caller waits for it
            reply.set_exception(error)

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()


class SyncPublisher:
    """`Publisher` for synchronous code, with the same guarantees. Threads may share it.

    A context manager. Connects on entering or at the first use (raises BrokerUnreachableError), in a thread of its own.
    A forked child may use it on: it gets a thread and a connection of its own; futures that the parent got before the
    fork end in the parent only. At the interpreter's exit it waits for confirms as `close` does; children of
    `multiprocessing` exit without that, so close it there.
    """

    def __init__(self, config: PublisherConfig, *, tracer: Tracer | None = None, sink: MeterSink | None = None) -> None:
        self.config = config
        self._tracer = tracer
        self._sink = sink
        self._maker = Maker(config, tracer)
        self._lock = threading.Lock()
        self._room: _Room | None = None
        self._closed = False
        self._inherited: list[_Room] = []  # of the parent: kept, since ending them here would reach into its epoll
        me = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _forget(me()))
        atexit.register(_close_at_exit, me)

    def __enter__(self) -> Self:
        self._open_room()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def outstanding(self) -> int:
        """How many messages were handed over and are not confirmed."""
        room = self._room
        return 0 if room is None else len(room.inbox) + room.publisher.outstanding

    def publish(self, job: Job) -> None:
        """Send one job and return when the broker has confirmed it; raises as `Publisher.publish`.

        Blocks the calling thread for `confirm_timeout_s` and 5 s more at most; then PublishTimeoutError.
        """
        room = self._open_room()
        try:
            room.call(room.publisher.publish(job), self.config.confirm_timeout_s + _GRACE_S)
        except TimeoutError:
            raise PublishTimeoutError(f"message {job.id}: the publisher's thread does not answer") from None

    def submit(self, job: Job) -> Reply:
        """Send one job and return a `concurrent.futures.Future` at once, which ends as `publish` would.

        Raises EncodeError, PublisherClosedError, and PublisherFullError when `max_outstanding` messages are
        unconfirmed; nothing was sent then. The bound on bytes is met in the publisher's thread: that
        PublisherFullError is in the future.
        """
        room = self._open_room()
        if self.outstanding >= self.config.max_outstanding:
            raise PublisherFullError("too many messages are unconfirmed; use publish(), which waits")
        reply: Reply = concurrent.futures.Future()
        with self._maker.span(job):
            room.post(self._maker.job(job), reply)
        return reply

    def publish_many(self, jobs: Iterable[Job], packed: bool | int = False) -> PublishReport:
        """Send many jobs and report how each ended; as `Publisher.publish_many`.

        Blocks the calling thread until the last one has ended; each message has a time-out of its own.
        """
        room = self._open_room()
        result: PublishReport = room.call(room.publisher.publish_many(list(jobs), packed), threading.TIMEOUT_MAX)
        return result

    def close(self, timeout_s: float | None = None) -> CloseReport:
        """Wait for confirms, at most `timeout_s` seconds, disconnect, end the thread; as `Publisher.close`."""
        wait_s = self.config.close_within_s(timeout_s)
        with self._lock:
            self._closed = True
            room, self._room = self._room, None
        if room is None:
            return CloseReport()
        result: CloseReport = room.call(room.publisher.close(wait_s), wait_s + _GRACE_S)
        room.end()
        return result

    def _open_room(self) -> _Room:
        room = self._room
        if room is not None:
            return room
        with self._lock:
            if self._closed:
                raise PublisherClosedError("the publisher is closed")
            if self._room is None:
                self._room = self._connected()
            return self._room

    def _connected(self) -> _Room:
        room = _Room(self.config, self._tracer, self._sink)
        try:
            room.call(room.publisher.open(), self.config.connect_timeout_s + _GRACE_S)
        except BaseException:
            room.end()
            raise
        return room

    def _forget_parent(self) -> None:
        self._lock = threading.Lock()
        if self._room is not None:
            self._inherited.append(self._room)
            self._room = None


def _forget(publisher: SyncPublisher | None) -> None:
    """Runs in a forked child, which has neither the parent's thread nor a right to its connection."""
    if publisher is not None:
        publisher._forget_parent()


def _close_at_exit(reference: weakref.ref[SyncPublisher]) -> None:
    publisher = reference()
    if publisher is not None:
        publisher.close()
