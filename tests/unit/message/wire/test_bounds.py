"""Whatever a stranger writes: reading it takes time that grows with its size, and the memory that the limits say."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.parcel import records_of
from rabbitray.actors.message.wire import MessageLimits, count_records, decode, plain_size, read_head, split
from tests.kit.deliveries import parcel
from tests.kit.hostile_bodies import HOSTILE, Body

LIMITS = MessageLimits()
BYTES_FOR_AN_ENTRY, BYTES_FOR_A_BYTE = 256, 9  # as the docstring of MessageLimits has it
SMALL_CHANGE = 200_000

MOST_GROWTH = 40  # times for ten times the size: the square of it would be 100
LEAST_S = 0.01  # below, a clock tells too little

Reader = Callable[[Body, MessageLimits], object]

READERS: dict[str, Reader] = {
    "decode": lambda body, limits: decode(*body, limits),
    "split": lambda body, limits: split(body[0], body[2], limits),
    "read_head": lambda body, limits: read_head(*body),
    "records_of": lambda body, limits: records_of(
        parcel(body[0], content_type=body[1], content_encoding=body[2]), limits
    ),
    "first bytes": lambda body, limits: (count_records(*body), plain_size(body[0], body[2], limits)),
}


def read(reader: Reader, body: Body, limits: MessageLimits) -> None:
    with suppress(DecodeError):
        reader(body, limits)


def cpu_s(reader: Reader, body: Body, limits: MessageLimits) -> float:
    """Seconds of this thread's own CPU time, the least of three."""
    took = []
    for _ in range(3):
        began = time.thread_time()
        read(reader, body, limits)
        took.append(time.thread_time() - began)
    return min(took)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_ten_times_the_size_takes_about_ten_times_as_long(name: str, reader: str) -> None:
    """With few entries allowed, each text is counted in full; with many, each document is built."""
    few = MessageLimits(max_elements=1_000)
    for limits in (few, LIMITS):
        small, large = (cpu_s(READERS[reader], HOSTILE[name](size), limits) for size in (30_000, 300_000))
        assert large < MOST_GROWTH * max(small, LEAST_S / 10)


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
    limits = MessageLimits(max_elements=50_000, max_message_bytes=500_000)
    body = HOSTILE[name](400_000)
    plain = plain_size(body[0], body[2], limits)
    entries = min(limits.max_elements, plain)
    most = entries * BYTES_FOR_AN_ENTRY + plain * (BYTES_FOR_A_BYTE - 1) + SMALL_CHANGE
    assert peak_bytes(READERS[reader], body, limits) < most
