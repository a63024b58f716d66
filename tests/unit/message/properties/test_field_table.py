"""Field tables are read as pamqp reads them, and where it cannot, what can be read is there and the rest is told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import decode, encode
from pamqp.exceptions import PAMQPException

from rabbitray.actors.message.properties.field_table import (
    MOST_DEPTH,
    MOST_VALUES,
    UnreadableError,
    entries,
    read_table,
)
from tests.kit.raw_amqp import BEYOND, ONE_OF_EACH, entry, long, scalar, table, tables

PAMQP_RAISES = (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError, PAMQPException)


def read(written: bytes) -> tuple[dict[str, Any], str | None]:
    """The table of these bytes, its length first, in the middle of others."""
    return read_table(b"before" + written + b"behind it", 10, len(written) + 6)


def by_pamqp(written: bytes) -> dict[str, Any] | None:
    """The same by pamqp; None where it raises. It takes the digits of a decimal for signed, which AMQP does not."""
    try:
        return _unsigned(decode.field_table(written)[1])
    except PAMQP_RAISES:
        return None


def _unsigned(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _unsigned(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_unsigned(inner) for inner in value]
    if isinstance(value, Decimal) and value < 0:
        return value + Decimal(2**32).scaleb(int(value.as_tuple().exponent))
    return value


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_type_is_read_as_pamqp_reads_it(name: bytes) -> None:
    written = table({name: ONE_OF_EACH[name], b"next": long("S", b"x")})
    assert by_pamqp(written) is not None
    assert read(written) == (by_pamqp(written), None)


@given(tables)
def test_a_table_is_read_where_pamqp_reads_it_and_only_there(written: bytes) -> None:
    found, why = read(written)
    expected = by_pamqp(written)
    assert (why is None) == (expected is not None)
    assert expected is None or repr(found) == repr(expected), "a NaN too"


@given(
    st.dictionaries(st.text("ab", min_size=1, max_size=3), st.integers(2**32, 2**62) | st.text(max_size=9)), st.data()
)
def test_what_is_read_of_a_damaged_table_is_what_pamqp_reads(table: dict[str, int | str], data: st.DataObject) -> None:
    _compare(_damaged(encode.field_table(table), data))


@given(tables, st.data())
def test_what_is_read_of_any_damaged_table_is_what_pamqp_reads(written: bytes, data: st.DataObject) -> None:
    _compare(_damaged(written, data))


@given(tables, st.data())
def test_a_table_that_ends_too_early_is_told(written: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(4, len(written)))
    _compare((cut - 4).to_bytes(4, "big") + written[4:cut])


def _damaged(written: bytes, data: st.DataObject) -> bytes:
    found = bytearray(written)
    for _ in range(data.draw(st.integers(0, 2)) if len(found) > 4 else 0):
        found[data.draw(st.integers(4, len(found) - 1))] = data.draw(st.integers(0, 255))
    return bytes(found)


def _compare(written: bytes) -> None:
    """Whole is what pamqp reads as well. pamqp reads some tables whose values go beyond them, which we tell."""
    found, why = read(written)
    expected = by_pamqp(written)
    if why is None:
        assert repr(found) == repr(expected)
    elif expected is not None:
        with pytest.raises(UnreadableError):
            _walk(written[4:])


def _walk(inside: bytes, kind: str = "F") -> None:
    """Raises where a length in this table or list, or in those in it, goes beyond it."""
    parts = entries(inside, 0, len(inside)) if kind == "F" else _items(inside)
    for one in parts:
        value = inside[one.at : one.end]
        if value[:1] in (b"F", b"A"):
            _walk(value[5:], value[:1].decode())


def _items(inside: bytes) -> Any:
    """The values of a list, as the entries of a table without names."""
    at = 0
    while at < len(inside):
        [one] = [next(entries(b"\0" + inside[at:], 0, len(inside) - at + 1))]
        yield one._replace(at=at, end=at + one.end - 1)
        at += one.end - 1


@pytest.mark.parametrize("stamp", BEYOND)
def test_a_time_that_python_has_nothing_for_is_left_out_and_told(stamp: int) -> None:
    headers = {b"a": long("S", b"x"), b"when": scalar("T", stamp), b"z": scalar("l", 1)}
    assert read(table(headers)) == (
        {"a": "x", "z": 1},
        f"header 'when': the time stamp {stamp}, beyond the year 9999",
    )


@pytest.mark.parametrize(
    ("headers", "left", "told"),
    [
        ({b"\xff": scalar("b", 1), b"z": scalar("b", 2)}, {"z": 2}, r"header '\\xff': a name that is not UTF-8"),
        ({b"f": long("F", entry(b"\xff", scalar("V"))), b"z": scalar("b", 2)}, {"z": 2}, "header 'f': a name"),
        ({b"f": long("A", b"q"), b"z": scalar("b", 2)}, {"z": 2}, "header 'f': the unknown type 'q'"),
        ({b"a": scalar("b", 2), b"q": b"q"}, {"a": 2}, "the unknown type 'q'"),
        ({b"a": scalar("b", 2), b"S": b"S\0\0\0\x09text"}, {"a": 2}, "a value that goes beyond its table"),
        ({b"f": long("A", b"S\0\0\0\x09x"), b"z": scalar("b", 2)}, {"z": 2}, "header 'f': a value that goes beyond"),
        ({b"a": scalar("b", 2), b"none": b""}, {"a": 2}, "a header without a value"),
    ],
)
def test_what_stands_beside_an_unreadable_header_is_read(
    headers: dict[bytes, bytes], left: dict[str, object], told: str
) -> None:
    found, why = read(table(headers))
    assert found == left
    assert why is not None
    assert why.startswith(told)


@pytest.mark.parametrize("kind", ["A", "F"])
def test_tables_in_one_another_are_read_to_a_bound(kind: str) -> None:
    def nested(depth: int) -> bytes:
        value = scalar("b", 1)
        for _ in range(depth):
            value = long(kind, value if kind == "A" else entry(b"n", value))
        return table({b"deep": value, b"z": scalar("b", 2)})

    assert read(nested(MOST_DEPTH))[1] is None
    for depth in (MOST_DEPTH + 1, 10_000):
        found, why = read(nested(depth))
        assert found == {"z": 2}
        assert why == f"header 'deep': more than {MOST_DEPTH} tables in one another"


def test_more_values_than_all_headers_may_have_are_not_read() -> None:
    found, why = read(table([entry(b"%d" % n, scalar("V")) for n in range(100_000)]))
    assert why == f"headers of more than {MOST_VALUES:,} values"
    assert len(found) == MOST_VALUES
    found, why = read(table({b"a": scalar("b", 1), b"many": long("A", scalar("V") * 100_000)}))
    assert (found, why) == ({"a": 1}, f"headers of more than {MOST_VALUES:,} values")


class Counting(bytes):
    """Bytes that count how many of them were looked at or copied."""

    touched = 0

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        self.touched += len(found) if isinstance(found, bytes) else 1
        return found


@pytest.mark.parametrize("value", [scalar("V"), long("A", scalar("V") * 3), long("S", b"x" * 30)], ids=["V", "A", "S"])
def test_the_work_grows_with_the_table(value: bytes) -> None:
    def work(count: int) -> int:
        data = Counting(b"".join(entry(b"%04d" % number, value) for number in range(count)) + entry(b"T", BEYOND_T))
        read_table(data, 0, len(data))
        return data.touched

    assert work(2_000) < 11 * work(200)


BEYOND_T = scalar("T", BEYOND[0])
