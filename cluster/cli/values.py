"""Cells of an Arrow table as plain values: whatever DuckDB's types hold, also what Python's own cannot. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Final

import pyarrow as pa

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NS: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_DAY_NS: Final = 86_400 * 1_000_000_000
_CYCLE_DAYS: Final = 146_097  # 400 years: then the calendar repeats itself
_ENDLESS: Final = frozenset((2**63 - 1, 2**31 - 1))  # DuckDB's `infinity`: of a timestamp, of a date


def rows(table: pa.Table) -> list[dict[str, object]]:
    """The rows as plain values; a column whose name is there already is called `name:1`.

    Whole decimals (DuckDB's sums) become integers, intervals ISO 8601 durations; a time that Python's datetime cannot
    hold (infinite, before year 1 or after 9999, with nanoseconds) becomes text.
    """
    columns = [column_values(column) for column in table.columns]
    return [dict(zip(names(table), row, strict=True)) for row in zip(*columns, strict=True)]


def names(table: pa.Table) -> list[str]:
    """The names of the columns, each one once."""
    found: dict[str, None] = {}
    for name in table.column_names:
        again = (f"{name}:{number}" for number in count(1))
        found[name if name not in found else next(one for one in again if one not in found)] = None
    return list(found)


def column_values(column: pa.ChunkedArray) -> list[object]:
    """The values of one column."""
    if not _by_value(column.type):
        try:
            found: list[object] = column.to_pylist()
            converted = pa.types.is_decimal(column.type) or pa.types.is_interval(column.type)
            return [_plain(value) for value in found] if converted else found
        except (OverflowError, ValueError):  # a time beyond Python's
            pass
    return [_value(scalar) for chunk in column.chunks for scalar in chunk]


def _by_value(kind: pa.DataType) -> bool:
    """Whether Arrow's own way to Python is no way for all values: it says 24:00 as 00:00."""
    return bool(pa.types.is_time(kind) or pa.types.is_nested(kind))


def _plain(value: object) -> object:
    """A Python value of Arrow's; whole decimals become integers."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else value
    return _duration(value) if isinstance(value, pa.MonthDayNano) else value


def _value(scalar: pa.Scalar) -> object:
    """One scalar of any type."""
    kind = scalar.type
    if not scalar.is_valid:
        return None
    if pa.types.is_struct(kind):
        return {kind.field(place).name: _value(scalar[place]) for place in range(kind.num_fields)}
    if pa.types.is_map(kind):
        return [[_value(pair["key"]), _value(pair["value"])] for pair in scalar.values]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [_value(one) for one in scalar.values]
    if pa.types.is_union(kind):
        return _value(scalar.value)
    if pa.types.is_date32(kind):
        return _date(scalar.value)
    if pa.types.is_time(kind):
        return _clock(scalar.value * _NS[kind.unit])
    if pa.types.is_timestamp(kind):
        return _moment(scalar)
    return _plain(scalar.as_py())


def _moment(scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        pass
    if abs(scalar.value) in _ENDLESS:
        return "infinity" if scalar.value > 0 else "-infinity"
    days, of_day = divmod(scalar.value * _NS[scalar.type.unit], _DAY_NS)
    return f"{_date(days)}T{_clock(of_day)}{'Z' if scalar.type.tz else ''}"


def _date(days: int) -> object:
    """Days since 1970; ISO 8601 with a sign and at least four digits where the year is beyond Python's."""
    if abs(days) in _ENDLESS:
        return "infinity" if days > 0 else "-infinity"
    try:
        return (_EPOCH + timedelta(days=days)).date()
    except OverflowError:
        cycles, rest = divmod(days, _CYCLE_DAYS)
        inside: date = (_EPOCH + timedelta(days=rest)).date()
        return f"{inside.year + cycles * 400:+05d}-{inside:%m-%d}"


def _clock(nanoseconds: int) -> str:
    """Nanoseconds since midnight, which may be 24:00."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    text = f"{seconds // 3_600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{rest:09d}".removesuffix("000") if rest else text


def _duration(value: Sequence[int]) -> str:
    """Months, days, nanoseconds as ISO 8601: `P3M2DT1.5S`."""
    months, days, nanoseconds = value
    sign, (seconds, rest) = "-" if nanoseconds < 0 else "", divmod(abs(nanoseconds), 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    parts = [f"{months}M" if months else "", f"{days}D" if days else ""]
    parts.append(f"T{sign}{seconds}{fraction}S" if nanoseconds or not (months or days) else "")
    return "P" + "".join(parts)
