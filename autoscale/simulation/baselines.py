"""The rules of other autoscalers, from their public documentation and defaults. Pure.

Where a rule needs a number that its user has to find ("messages for each worker"), it gets the right one
for the plant: what a worker finishes within the age target at the utilisation that we aim at. Ours has to
measure that. All run with the same bounds, start time and pool; all are asked as often as they ask
themselves. `name` with "-tuned" has our delays instead of the documented defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from rabbitray.autoscale.policy.signals import PolicyLimits, Snapshot
from rabbitray.autoscale.simulation.simulate import Plant, Policy


@dataclass(slots=True, kw_only=True)
class Celery:
    """`celery worker --autoscale=max,min`: one process's reserved requests.

    Rule (Celery 5.6, celery.worker.autoscale): reserved = requests that the worker holds, at most the prefetch
    (`worker_prefetch_multiplier` 4 x processes) on top of the running ones; more reserved than processes: grow
    to min(reserved, max) at once; fewer: shrink to max(reserved, min), only AUTOSCALE_KEEPALIVE (30 s) after
    the last growth. Only idle processes end.
    """

    limits: PolicyLimits
    name: str = "celery"
    interval_s: int = 1
    multiplier: int = 4
    keepalive_s: float = 30.0
    grew_at: float | None = None

    def wanted(self, seen: Snapshot) -> int:
        """min(reserved, max), or max(reserved, min) after the keep-alive."""
        processes = max(1, seen.have)
        reserved = min(seen.backlog, self.multiplier * processes)
        if min(reserved, self.limits.max_size) > processes:
            self.grew_at = seen.now
            return min(reserved, self.limits.max_size)
        fewer = max(reserved, self.limits.min_size, seen.pool.busy)
        kept = self.grew_at is not None and seen.now - self.grew_at <= self.keepalive_s
        return processes if fewer >= processes or kept else fewer


@dataclass(slots=True, kw_only=True)
class Keda:
    """KEDA's RabbitMQ scaler in mode QueueLength through a Horizontal Pod Autoscaler.

    Rule (KEDA 2.x, Kubernetes autoscaling/v2 defaults): every 15 s desired = ceil(messages / value), ready and
    unacknowledged counted; no change within a tolerance of 10 %; up by at most 100 % or 4 pods in 15 s, without
    stabilisation; down to the highest desire of the last 300 s. The HPA picks which replica ends, busy or not.
    """

    value: float
    limits: PolicyLimits
    name: str = "keda"
    interval_s: int = 15
    stabilization_s: float = 300.0
    history: list[tuple[float, int]] = field(default_factory=list)

    def wanted(self, seen: Snapshot) -> int:
        """The replicas after tolerance, stabilisation and the scale-up policy."""
        current = max(1, seen.pool.target)
        ratio = seen.backlog / self.value / current
        desired = current if abs(ratio - 1) <= 0.1 else ceil(seen.backlog / self.value)
        self.history = [(at, n) for at, n in self.history if at > seen.now - self.stabilization_s]
        self.history.append((seen.now, desired))
        if desired > current:
            return min(desired, max(2 * current, current + 4))
        return min(current, max(n for _, n in self.history))


@dataclass(slots=True, kw_only=True)
class RayServe:
    """Ray Serve's `AsyncInferenceAutoscalingPolicy` with the delays of its `AutoscalingConfig`.

    Rule (Ray 2.60): desired = ceil(queue length / target_ongoing_requests), the length polled every 10 s;
    up after `upscale_delay_s` (30) of consecutive wishes, down after `downscale_delay_s` (600), both
    reset when the wish changes direction; factors 1.
    """

    value: float
    name: str = "ray-serve"
    interval_s: int = 1
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0
    polled_at: float | None = None
    length: int = 0
    wish: tuple[int, float] | None = None  # direction, since when

    def wanted(self, seen: Snapshot) -> int:
        """The replicas after the delays."""
        if self.polled_at is None or seen.now - self.polled_at >= 10.0:
            self.polled_at, self.length = seen.now, seen.backlog
        target = seen.pool.target
        desired = max(1, ceil(self.length / self.value))
        direction = (desired > target) - (desired < target)
        if direction == 0:
            self.wish = None
            return target
        if self.wish is None or self.wish[0] != direction:
            self.wish = (direction, seen.now)
        delay_s = self.upscale_delay_s if direction > 0 else self.downscale_delay_s
        if seen.now - self.wish[1] < delay_s:
            return target
        self.wish = None
        return desired


@dataclass(slots=True, kw_only=True)
class RayData:
    """Ray Data's `ActorPoolStrategy`: utilisation of the actors.

    Rule (Ray 2.60, DefaultActorAutoscaler): utilisation = tasks in flight / running actors, at most
    `max_tasks_in_flight_per_actor` (2 x concurrency) each; at 1.75 or more up by ceil(size x (utilisation /
    1.75 - 1)), at least 1; at 0.5 or less down by one, not while actors are pending and not within 10 s of a
    growth. Asked once a second here (Ray asks in each turn of its scheduling loop).
    """

    name: str = "ray-data"
    interval_s: int = 1
    grew_at: float | None = None

    def wanted(self, seen: Snapshot) -> int:
        """One step up or down, by utilisation."""
        size = seen.pool.target
        running = seen.pool.workers
        used = min(seen.backlog, 2 * running) / running if running else float("inf")
        if used >= 1.75:
            self.grew_at = seen.now
            return size + (1 if running == 0 else max(1, ceil(size * (used / 1.75 - 1))))
        pending = seen.pool.starting > 0 or (self.grew_at is not None and seen.now - self.grew_at <= 10.0)
        return size - 1 if used <= 0.5 and not pending and size > 1 else size


def baselines(plant: Plant, target_age_s: float) -> list[Policy]:
    """All rules for a plant, fresh, those with delays once by their defaults and once with ours."""
    limits = plant.limits
    value = target_age_s * limits.target_utilization / plant.service_s
    delay_s = limits.downscale_delay_s
    return [
        Celery(limits=limits),
        Keda(value=value, limits=limits),
        Keda(value=value, limits=limits, name="keda-tuned", stabilization_s=delay_s),
        RayServe(value=value),
        RayServe(value=value, name="ray-serve-tuned", upscale_delay_s=0.0, downscale_delay_s=delay_s),
        RayData(),
    ]
