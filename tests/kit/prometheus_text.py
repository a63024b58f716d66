"""Reads Ray's Prometheus endpoint as a scraper does."""

from __future__ import annotations

import re
from dataclasses import dataclass

import aiohttp
import ray

_LINE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One line of the endpoint."""

    name: str
    labels: dict[str, str]
    value: float


def parse(text: str) -> list[Sample]:
    """The samples of the text format."""
    found = [match for line in text.splitlines() if (match := _LINE.match(line)) and not line.startswith("#")]
    return [
        Sample(name=one["name"], labels=dict(_LABEL.findall(one["labels"] or "")), value=float(one["value"]))
        for one in found
    ]


async def scrape(pool: str) -> list[Sample]:
    """What the endpoints of all nodes of this process's Ray say about one pool."""
    found: list[Sample] = []
    async with aiohttp.ClientSession() as session:
        for node in ray.nodes():
            url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
            async with session.get(url) as answer:
                found += [one for one in parse(await answer.text()) if one.labels.get("pool") == pool]
    return found
