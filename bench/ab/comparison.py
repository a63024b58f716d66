"""Rounds of two sides in turn on one node, until there are enough."""

from __future__ import annotations

import contextlib
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from bench.ab import report
from bench.ab.measure import Measured, Round, take_turns
from bench.ab.plans import PLANS, Figure, figures_of, plan_of
from bench.ab.report import Pair
from bench.ab.rules import Estimate, enough, estimate
from bench.ab.sides import Side, Unusable
from bench.node import private_node


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The broker of both sides; `own`: our private node, None for a broker that RABBITMQ_URL names, or for none."""

    url: str = ""
    own: Any = None  # Any: nothing of the project but bench/ is imported here

    @contextlib.contextmanager
    def fresh(self) -> Iterator[tuple[str, int]]:
        """Address and process of the broker for one round: in a vhost of its own, so that no round leaves queues."""
        if self.own is None:
            yield self.url, 0
            return
        name = f"ab-{uuid.uuid4().hex[:8]}"
        try:
            yield self.own.add_vhost(name), self.own.pid
        finally:
            self.own.remove_vhost(name)


@contextlib.contextmanager
def node(*, needed: bool) -> Iterator[Node]:
    """The one broker of all rounds."""
    if not needed:
        yield Node()
        return
    with private_node() as found:
        yield Node(url=found.url, own=found if hasattr(found, "add_vhost") else None)


class Comparison:
    """Of BASE and HEAD. `lower`: ratios that are better when lower, of a bench that has no plan."""

    def __init__(self, bench: str, base: Side, head: Side, lower: tuple[str, ...]) -> None:
        self._bench, self._lower = bench, lower
        self._base, self._head = base, head
        self.pairs: list[Pair] = []

    def run(self, broker: Node, *, limit: float, most_rounds: int | None) -> str:
        """Why it stopped."""
        began = time.monotonic()
        while True:
            self.pairs.append(self._round(broker))
            main = estimate(report.ratios(self.figures()[0], self.pairs))
            self._say(main)
            if reason := enough(main, spent_s=time.monotonic() - began, limit=limit, most_rounds=most_rounds):
                return reason

    def figures(self) -> list[Figure]:
        """What can be compared, the main one first."""
        plan = PLANS.get(self._bench) or plan_of(self.pairs[0][0].result, self._lower)
        found = report.comparable(plan.figures, self.pairs)
        if not found or found[0] != plan.figures[0]:
            raise Unusable(f"{self._bench} gave no figure on both sides that can be compared")
        return found

    def _round(self, broker: Node) -> Pair:
        """Base first or head first by turns: what drifts meets both."""
        order = [self._base, self._head][:: -1 if len(self.pairs) % 2 else 1]
        with contextlib.ExitStack() as both:
            places = [both.enter_context(broker.fresh()) for _ in order]
            rounds = [
                both.enter_context(Round(side, self._bench, url=url, broker_pid=pid))
                for side, (url, pid) in zip(order, places, strict=True)
            ]
            found = dict(zip((side.name for side in order), take_turns(rounds), strict=True))
        return self._readable(found["base"]), self._readable(found["head"])

    def _readable(self, found: Measured) -> Measured:
        return found if self._bench in PLANS else replace(found, result=figures_of(found.result, self._lower))

    def _say(self, main: Estimate) -> None:
        name = self.figures()[0].name
        base, head = (report.short(side.result[name]) for side in self.pairs[-1])
        told = f"{name} {base} and {head}; median ratio {main.median:.3f}"
        interval = "" if main.rounds < 6 else f" ({main.low:.3f} to {main.high:.3f})"
        print(f"bench-ab: round {main.rounds}: {told}{interval}", file=sys.stderr, flush=True)
