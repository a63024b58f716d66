"""PromQL over the measurements of the table. Pure. `where`: label matchers, e.g. `pool="orders"`."""

from __future__ import annotations

from rabbitray.actors.telemetry.kpi import Kpi

BY = "pool, queue"


def series(one: Kpi, where: str = "", end: str = "") -> str:
    """A series and its matchers."""
    name = one.prometheus + end
    return f"{name}{{{where}}}" if where else name


def value(one: Kpi, where: str = "", by: str = BY) -> str:
    """The newest value of a gauge; of several routers of one pool (one that ends, one that starts) the greatest."""
    return f"max by ({by}) ({series(one, where)})"


def rate(one: Kpi, where: str = "", by: str = BY, span: str = "5m") -> str:
    """How much a counter grew in a second."""
    return f"sum by ({by}) (rate({series(one, where)}[{span}]))"


def mean(one: Kpi, where: str = "", by: str = BY, span: str = "5m") -> str:
    """The mean of a histogram."""
    top, bottom = (f"sum by ({by}) (rate({series(one, where, end)}[{span}]))" for end in ("_sum", "_count"))
    return f"{top} / {bottom}"


def quantile(share: float, one: Kpi, where: str = "", by: str = BY, span: str = "5m") -> str:
    """A percentile of a histogram, as exact as its buckets."""
    return f"histogram_quantile({share:g}, sum by ({by}, le) (rate({series(one, where, '_bucket')}[{span}])))"
