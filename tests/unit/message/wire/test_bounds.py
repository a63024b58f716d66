"""Whatever a stranger writes: reading it takes time that grows with its size, and the memory that the limits say."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.parcel import Parcel, records_of
from rabbitray.actors.message.wire import MessageLimits, count_records, decode, plain_size, split
from rabbitray.actors.worker.batch.decoding import IdentityRules, decode_parcels
from tests.kit.deliveries import parcel
from tests.kit.growth import growth
from tests.kit.hostile_bodies import HOSTILE, Body

pytestmark = pytest.mark.slow

LIMITS = MessageLimits()
BYTES_FOR_AN_ENTRY, BYTES_FOR_A_BYTE = 256, 10  # as the docstring of MessageLimits has it

MOST_GROWTH = 40  # times for ten times the size: the square of it would be 100


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    """Its passes over all objects come in steps, which would be taken for growth."""
    gc.disable()
    yield
    gc.enable()


Reader = Callable[[Body, MessageLimits], object]

READERS: dict[str, Reader] = {
    "of a worker": lambda body, limits: decode_parcels([of(body)], limits, IdentityRules()),
    "of a worker, for one record": lambda body, limits: split(body[0], body[2], limits),
    "of the router, on arrival": lambda body, limits: (count_records(*body), plain_size(body[0], body[2], limits)),
    "of the router, for a key": lambda body, limits: records_of(of(body), limits),
}


def of(body: Body) -> Parcel:
    return parcel(body[0], content_type=body[1], content_encoding=body[2])


def read(reader: Reader, body: Body, limits: MessageLimits) -> None:
    with suppress(DecodeError):
        reader(body, limits)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_ten_times_the_size_takes_about_ten_times_as_long(name: str, reader: str) -> None:
    """With few entries allowed, each text is counted in full; with many, each document is built."""
    small, large = (HOSTILE[name](size) for size in (30_000, 300_000))
    for limits in (MessageLimits(max_elements=1_000), LIMITS):
        assert growth(lambda body, limits=limits: read(READERS[reader], body, limits), small, large) < MOST_GROWTH


@pytest.mark.parametrize("name", [name for name in HOSTILE if "records" in name])
def test_each_record_of_a_message_is_looked_at_once(name: str) -> None:
    """Whatever is done for each of a thousand records may not be done over the whole message."""
    body = HOSTILE[name](300_000)
    readers: list[Reader] = [lambda body, limits: decode(*body, limits), READERS["of a worker"]]
    assert growth(lambda reader: read(reader, body, LIMITS), *readers) < MOST_GROWTH


def peak_bytes(reader: Reader, body: Body, limits: MessageLimits) -> int:
    tracemalloc.start()
    try:
        read(reader, body, limits)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_memory_stays_within_the_limits(name: str, reader: str) -> None:
    """Whether the entries are counted before it is read, or too few to be."""
    limits = MessageLimits(max_elements=50_000, max_message_bytes=500_000)
    for size in (90_000, 400_000):
        body = HOSTILE[name](size)
        plain = plain_size(body[0], body[2], limits)
        most = limits.max_elements * BYTES_FOR_AN_ENTRY + plain * (BYTES_FOR_A_BYTE - 1)
        assert peak_bytes(READERS[reader], body, limits) < most
