"""WorkerKind: what one worker asks of Ray. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from rabbitray.actors.errors import ConfigurationError

UNIT: Final = 10_000
"""Ray counts each resource in parts of 1/10,000."""

CPU: Final = "CPU"
GPU: Final = "GPU"
MEMORY: Final = "memory"
ACCELERATOR: Final = "accelerator_type:"
"""With the type behind it: the resource by which Ray counts `accelerator_type`, of which a worker takes 0.001."""

BUILT: Final = frozenset({"pip", "uv", "py_modules", "working_dir"})
"""Fields of a runtime_env for which Ray builds something on the node before the worker's process starts."""

BUILD_TIMEOUT_S: Final = 600.0
"""Ray's own `setup_timeout_seconds`, where the runtime_env says nothing."""

SHARE_NOISE: Final = 0.0101
"""A share of a GPU is 1/n where it is that to 1 %: 0.33 is a third."""

Placement = Literal["spread", "pack"]

Selector = tuple[tuple[str, str], ...]
"""Label -> what it must be, as Ray writes it: `v`, `!v`, `in(a,b)` or `!in(a,b)`."""


def gpu_share(number: float) -> float:
    """The GPUs to ask Ray for: a whole number as it is, a share of one as 1/n, rounded down to what Ray counts.

    Seven shares of 0.1429 would be more than one GPU. Raises ConfigurationError for everything else: Ray places by the
    sum over a node's devices, and a worker of 0.6 on two GPUs of which 0.4 is free each would wait for ever.
    """
    if number >= 1 and float(number).is_integer():
        return float(number)
    parts = round(1 / number) if number > 0 else 0
    if not 2 <= parts <= UNIT or abs(number * parts - 1) > SHARE_NOISE:
        raise ConfigurationError(
            f"gpu={number:g}: a worker has whole GPUs, or 1/n of one (0.5, 0.25, 1/3); Ray counts the sum of a node's "
            "devices, and other shares may wait for ever"
        )
    return (UNIT // parts) / UNIT


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerKind:
    """One kind of worker: what each of its workers reserves, where it may run, and in which environment.

    `num_gpus`: see `gpu_share`. `memory`: bytes, which Ray counts and does not enforce. `resources`: custom ones of the
    cluster. `selectors`: the labels that its node must have; the first of them for which there is a node counts (none:
    any node). `runtime_env`: of Ray, as JSON; empty for none. A kind may ask for nothing at all.
    """

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory: int = 0
    resources: tuple[tuple[str, float], ...] = ()
    accelerator_type: str | None = None
    selectors: tuple[Selector, ...] = ()
    runtime_env: str = ""
    placement: Placement = "spread"

    @property
    def bundle(self) -> dict[str, int]:
        """What one worker takes of its node: Ray's name of a resource -> how much, in 1/10,000."""
        asked = {CPU: self.num_cpus, GPU: self.num_gpus, MEMORY: float(self.memory), **dict(self.resources)}
        if self.accelerator_type is not None:
            asked[f"{ACCELERATOR}{self.accelerator_type}"] = 0.001
        return {name: max(1, units(amount)) for name, amount in asked.items() if amount > 0}

    @property
    def options(self) -> dict[str, Any]:  # Any: Ray's options have values of many types
        """For `.options(...)` of the actor's class."""
        asked: dict[str, Any] = {
            "num_cpus": self.num_cpus,
            "scheduling_strategy": "SPREAD" if self.placement == "spread" else "DEFAULT",
        }
        if self.num_gpus:
            asked["num_gpus"] = self.num_gpus if self.num_gpus < 1 else int(self.num_gpus)
        if self.memory:
            asked["memory"] = self.memory
        if self.resources:
            asked["resources"] = dict(self.resources)
        if self.accelerator_type is not None:
            asked["accelerator_type"] = self.accelerator_type
        if self.selectors:
            first, *others = map(dict, self.selectors)
            asked["label_selector"] = first
            asked |= {"fallback_strategy": [{"label_selector": one} for one in others]} if others else {}
        if self.runtime_env:
            asked["runtime_env"] = json.loads(self.runtime_env)
        return asked

    @property
    def build_timeout_s(self) -> float:
        """For how long Ray may build its environment on a node before a worker starts there; 0: there is nothing to
        build.
        """
        env: Mapping[str, Any] = json.loads(self.runtime_env) if self.runtime_env else {}  # Any: JSON
        if not BUILT & env.keys():
            return 0.0
        told = env.get("config", {}).get("setup_timeout_seconds", BUILD_TIMEOUT_S)
        return float(told) if told > 0 else BUILD_TIMEOUT_S

    @property
    def words(self) -> str:
        """The bundle for people: `cpu=1, gpu=0.25, memory=8GiB, license=1`."""
        return ", ".join(f"{shown(name)}={amount(name, taken)}" for name, taken in self.bundle.items()) or "nothing"


def units(number: float) -> int:
    """An amount of a resource in parts of 1/10,000, rounded as Ray does it."""
    return int(number * UNIT + 0.5)


def shown(name: str) -> str:
    """The name of a resource as the settings have it."""
    return name.lower() if name in (CPU, GPU) else name


def amount(name: str, taken: int) -> str:
    """So many 1/10,000 of a resource for people."""
    if name != MEMORY:
        return f"{taken / UNIT:g}"
    size = taken // UNIT
    for unit, of in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= of:
            return f"{size / of:.4g}{unit}"
    return str(size)


def matches(selectors: Sequence[Selector], labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels will do: all of one of the selectors, or there are none."""
    return not selectors or any(all(_holds(wanted, labels.get(key)) for key, wanted in one) for one in selectors)


def _holds(wanted: str, has: str | None) -> bool:
    """As Ray takes it: a label that a node does not have is none of the values that are ruled out."""
    text, ruled_out = wanted.removeprefix("!"), wanted.startswith("!")
    values = text[3:-1].split(",") if text.startswith("in(") else [text]
    return (has in values) is not ruled_out
