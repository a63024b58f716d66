"""Stage: the steps of a script, each a method: what producers, operators, machines and services do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.headers import Headers
from tests.simulation.broker import Message
from tests.simulation.messages import SHARED_ID, Wish
from tests.simulation.router_process import TOPOLOGY

if TYPE_CHECKING:
    from tests.simulation.router_process import RouterProcess
    from tests.simulation.world import World

EPOCH_MS = 1_700_000_000_000


class Stage:
    """What happens to a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def _router(self) -> RouterProcess | None:
        return self._world.routers[-1] if self._world.routers else None

    # producers

    def publish(self, count: int, do: str, value: float = 0.0, how: str = "", due_s: float = 0.0) -> None:
        """`how`: `packed` into one message, `shared`: all with one message id, `keyed`: with a key header.

        Those with a due time are due in turns: every second one 2 s later.
        """
        wishes = self._world.wishes.make(count, do, value, shared=how == "shared")
        groups = [wishes] if how == "packed" and do != "unreadable" else [[wish] for wish in wishes]
        for number, group in enumerate(groups):
            self._send(group, how, due_s and due_s + 2.0 * (number % 2))

    def _send(self, group: Sequence[Wish], how: str, due_s: float) -> None:
        made, first = self._world.wishes, group[0]
        body, kind = made.packed(group) if len(group) > 1 else made.single(first)
        headers: Headers = {h.KEY: first.serial} if how == "keyed" else {}
        if due_s:
            headers[h.DUE] = EPOCH_MS + round((asyncio.get_running_loop().time() + due_s) * 1000)
        message_id = SHARED_ID if how == "shared" else f"m-{first.serial}"
        serials = tuple(wish.serial for wish in group)
        message = Message(body=body, headers=headers, message_id=message_id, content_type=kind, serials=serials)
        self._world.broker.publish(TOPOLOGY.queue, message)

    # the broker

    def cut(self, client_s: float = 0.0, broker_s: float = 0.0) -> None:
        """The connection dies; each side hears of it so much later."""
        if (router := self._router) is not None:
            router.cut(client_s=client_s, broker_s=broker_s)

    def flaky(self, after_s: float, for_s: float) -> None:
        """Each new connection dies so soon after it was opened."""
        if (router := self._router) is not None:
            router.opener.flaky_s = after_s
            asyncio.get_running_loop().call_later(for_s, setattr, router.opener, "flaky_s", 0.0)
            router.cut(client_s=0.0, broker_s=0.0)

    def delete_rung(self, number: int) -> None:
        """Somebody deletes a rung."""
        delays = TOPOLOGY.rung_delays_ms
        self._world.broker.delete(TOPOLOGY.rung(delays[number % len(delays)]))

    # workers and nodes

    def crash(self, number: int) -> None:
        """A worker ends by itself: not the fault of what it ran."""
        workers = self._workers()
        if workers:
            workers[number % len(workers)].crash()

    def lose_node(self, node: int) -> None:
        """A node goes away."""
        if (router := self._router) is not None:
            router.cluster.lose_node(node)

    def _workers(self) -> list[object]:
        router = self._router
        return sorted(router.cluster.workers, key=lambda worker: worker.name) if router is not None else []

    # services

    def down(self, service: float) -> None:
        """A service does not answer any more."""
        self._world.down.add(service)

    def up(self, service: float) -> None:
        """It works again."""
        self._world.down.discard(service)

    # the store

    def store_full(self) -> None:
        """Nothing can be committed."""
        self._world.store.stop_committing()

    def store_well(self) -> None:
        """It can again."""
        self._world.store.commit_again()

    def store_dies(self, within_s: float) -> None:
        """The store process ends and is started again."""
        self._world.store.restart(within_s)

    # operators and the autoscaler

    def pause(self) -> None:
        """As `rabbitray pause`."""
        self._world.store.controls["paused"] = "by hand"
        if (router := self._router) is not None:
            router.run(router.hold())

    def resume(self) -> None:
        """As `rabbitray resume`."""
        self._world.store.controls.pop("paused", None)
        if (router := self._router) is not None:
            router.run(router.release())

    def resize(self, workers: int) -> None:
        """The pool has another size."""
        self._world.workers = workers
        if (router := self._router) is not None:
            router.pool.resize(workers)
            router.router.wake()

    def widen(self, window: int, batch_size: int, *, backlog: bool = False, hand_over: bool = False) -> None:
        """Another window, a consumer hand-over."""
        self._world.window, self._world.batch_size = window, batch_size
        if (router := self._router) is not None:
            router.run(router.router.set_window(window, batch_size, backlog=backlog, hand_over=hand_over))

    def kill_router(self, broker_s: float = 0.0) -> None:
        """The router's process ends; it is started again."""
        if (router := self._router) is not None:
            router.kill(broker_s)

    def drain_router(self, within_s: float) -> None:
        """The router ends in good order, and another one takes over."""
        if (router := self._router) is not None:
            router.run(router.leave(within_s))

    def second_router(self) -> None:
        """Another one is started beside it: the first one is fenced as soon as it asks the store."""
        self._world.spawn(self._world.supervise())

    # the end

    def heal(self) -> None:
        """Nothing but services stays broken."""
        world = self._world
        world.broker.missing.clear()
        world.store.commit_again()
        self.resume()
        self.resize(max(1, world.workers))
        for router in world.routers:
            router.opener.flaky_s = 0.0
