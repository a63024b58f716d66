"""The texts of the settings as values of a WorkerKind. Pure; each raises ValueError with what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.remote.placement.kind import UNIT, Selector, gpu_share

LEAST_MEMORY: Final = 1024**2
"""Bytes: less is rather a size without its unit."""

MOST_MEMORY: Final = 2**49
"""Bytes: in parts of 1/10,000 more would not fit into Ray's 64 bits."""

ENV_FIELDS: Final = frozenset({"env_vars", "pip", "uv", "py_modules", "working_dir", "config"})
URI: Final = re.compile(r"(gcs|https?|s3|gs|azure|abfss|file)://\S+")

SIZES: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
"""Units of sizes in capitals -> bytes."""

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]?I?B)?", re.IGNORECASE)
_NAME: Final = re.compile(r"[^\s=,;]{1,200}")
_LABEL: Final = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.-]{0,252}/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_VALUE: Final = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_WANTED: Final = re.compile(rf"!?(?:{_VALUE}|in\({_VALUE}(?:, ?{_VALUE})*\))")
_COMMAS: Final = re.compile(r",(?![^(]*\))")
_OWN_SETTINGS: Final = {"cpu": "worker_num_cpus", "num_cpus": "worker_num_cpus"}
_GPU: Final = ("gpu", "num_gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What stands in `worker_resources`; see WorkerKind."""

    num_gpus: float = 0.0
    memory: int = 0
    others: tuple[tuple[str, float], ...] = ()


def read_resources(text: str) -> Resources:
    """`gpu=0.25,memory=8GiB,license=1`: `gpu` and `memory`, every other name is a custom resource of the cluster."""
    gpus, memory, others = 0.0, 0, {}
    for name, value in _pairs(text):
        low = name.lower()
        if low in _OWN_SETTINGS:
            raise ValueError(f"{name}: set {_OWN_SETTINGS[low]}")
        if low in _GPU:
            gpus = _gpus(value)
        elif low == "memory":
            memory = _bytes(value)
        elif low == "object_store_memory":
            raise ValueError(f"{name} cannot be reserved for an actor")
        else:
            others[name] = _amount(name, value)
    return Resources(num_gpus=gpus, memory=memory, others=tuple(others.items()))


def read_selectors(text: str) -> tuple[Selector, ...]:
    """`zone=a, market=!in(spot); market=spot`: all labels of one; after `;` what is tried where those have no room."""
    if not text.strip():
        return ()
    return tuple(tuple(_labels(one)) for one in text.split(";"))


def _labels(text: str) -> Iterator[tuple[str, str]]:
    for pair in _COMMAS.split(text):
        key, equals, wanted = (part.strip() for part in pair.partition("="))
        if not equals or not _LABEL.fullmatch(key) or not _WANTED.fullmatch(wanted):
            raise ValueError(f"{pair.strip()!r} is no label with a value, !value, in(a,b) or !in(a,b)")
        yield key, wanted.replace(" ", "")  # Ray would take a blank for a part of the value


def read_runtime_env(value: object) -> str:
    """A runtime_env, as a mapping or as JSON, in JSON; empty for none.

    What is not installed by pip or uv comes by a URI: Ray uploads local folders for a job only.
    """
    if isinstance(value, str) and not value.strip():
        return ""
    try:
        env = json.loads(value) if isinstance(value, str) else value
        text = json.dumps(env, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"is no JSON: {error}") from None
    if not isinstance(env, Mapping):
        raise ValueError("is no JSON object")
    _check_env(env)
    return text if env else ""


def _check_env(env: Mapping[str, Any]) -> None:  # Any: JSON
    if unknown := env.keys() - ENV_FIELDS:
        raise ValueError(f"has {', '.join(sorted(unknown))}; known: {', '.join(sorted(ENV_FIELDS))}")
    if "pip" in env and "uv" in env:
        raise ValueError("has pip and uv; one of them installs")
    variables = env.get("env_vars", {})
    if not isinstance(variables, Mapping) or not all(isinstance(one, str) for one in variables.values()):
        raise ValueError("env_vars are texts by name")
    for name in ("pip", "uv"):
        asked = env.get(name, [])
        packages = asked.get("packages") if isinstance(asked, Mapping) else asked
        if not isinstance(packages, list) or not all(isinstance(one, str) for one in packages):
            raise ValueError(f"{name} is a list of requirements, or an object with `packages`")
    _check_uris(env)
    config = env.get("config", {})
    seconds = config.get("setup_timeout_seconds", 1) if isinstance(config, Mapping) else None
    if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds < 1:
        raise ValueError("config is an object, its setup_timeout_seconds a whole number from 1")


def _check_uris(env: Mapping[str, Any]) -> None:  # Any: JSON
    modules = env.get("py_modules", [])
    if not isinstance(modules, list):
        raise ValueError("py_modules is a list of URIs")
    for uri in [*modules, *([env["working_dir"]] if "working_dir" in env else [])]:
        if not isinstance(uri, str) or not URI.fullmatch(uri):
            raise ValueError(f"{uri!r} is no URI of a package; Ray uploads local folders for a job only")


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    seen = set()
    for pair in text.split(","):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name or value):
            continue
        if not equals or not value or not _NAME.fullmatch(name):
            raise ValueError(f"{pair.strip()!r} is no name=amount")
        if name.lower() in seen:
            raise ValueError(f"{name} is there twice")
        seen.add(name.lower())
        yield name, value


def _gpus(value: str) -> float:
    try:
        return gpu_share(float(Fraction(value)))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"gpu={value} is no number") from None
    except ConfigurationError as refused:
        raise ValueError(str(refused)) from None


def _bytes(value: str) -> int:
    match = _SIZE.fullmatch(value)
    size = 0 if match is None else int(float(match[1]) * SIZES[(match[2] or "B").upper()])
    if not LEAST_MEMORY <= size <= MOST_MEMORY:
        raise ValueError(f"memory={value} is no size such as 8GiB")
    return size


def _amount(name: str, value: str) -> float:
    try:
        amount = float(Fraction(value))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"{name}={value} is no number") from None
    if not 1 / UNIT <= amount <= 1e9:
        raise ValueError(f"{name}={value} is not between {1 / UNIT:g} and a thousand million")
    return amount
