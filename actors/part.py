"""Part: what a worker tells the router about a batch: the outcomes that are finished so far. Pure.

The result rows of a part travel beside it, as one Arrow table that the router never reads. An ordinary batch has
one part; a batch with a slow job has several, so that finished outcomes come back early.
"""

from __future__ import annotations

import msgspec

from actors.verdict import Failure


class Usage(msgspec.Struct, kw_only=True, array_like=True, frozen=True):
    """What a worker's process uses, as it measured it itself: CPU in percent of one core, resident memory in bytes."""

    cpu_percent: float | None  # None: measured for the first time, there is nothing to compare with
    rss_bytes: int


class Part(msgspec.Struct, kw_only=True, array_like=True):
    """Outcomes of one batch since the last part. Positions are indices of messages in the batch."""

    rows: int = 0  # rows of the table that travels beside this part
    row_positions: list[int] = []  # message of each row
    row_records: list[int] = []  # index of the record inside that message; empty: all 0
    failures: list[Failure] = []
    finished: list[int] = []  # messages all of whose records have an outcome now
    returned: list[int] = []  # messages given back undone: none of their records was started
    executing: list[int] = []  # messages with a job in the handler now
    open: int = 0  # jobs of this batch still to come in a later part
    jobs: int = 0  # jobs that got their outcome in this part
    span: str | None = None  # traceparent of the batch's process span, when it is traced
    busy_s: float = 0.0  # seconds in which this worker had a job in the handler, since its last part
    usage: Usage | None = None  # what its process uses; only where there is a new reading, every few seconds


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Part)


def encode_part(part: Part) -> bytes:
    """A part as one small buffer."""
    return _encoder.encode(part)


def decode_part(buffer: bytes) -> Part:
    """The inverse of `encode_part`."""
    return _decoder.decode(buffer)
