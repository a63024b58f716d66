"""What goes through the pipes of a query process: a line of JSON for each question, frames for its answer.

A frame is one byte for its kind, eight for the length of what follows (big-endian), and that. An answer is any number
of BATCH, then one END or FAILED; before it may stand nothing else. Before the first answer stands READY.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import asdict, dataclass, replace

import pyarrow as pa

from rabbitray.actors.errors import QueryError, StoreOpenError
from rabbitray.actors.store.file import StoreLockedError
from rabbitray.actors.store.queries.snapshot import Place, Snapshot

READY, BATCH, END, FAILED = b"R", b"B", b"E", b"F"

_HEAD = struct.Struct(">cQ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One statement, and what may be answered at most; None: all rows. `path`: the file, as it is where `snapshot` is
    None, which then nobody may write.
    """

    sql: str
    path: str
    snapshot: Snapshot | None = None
    batch_rows: int
    max_rows: int | None = None
    max_bytes: int | None = None

    def about(self, snapshot: Snapshot) -> Question:
        """The same, of this snapshot."""
        return replace(self, snapshot=snapshot)

    def encode(self) -> bytes:
        """One line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Question:
        """What `encode` made."""
        fields = json.loads(line)
        seen = fields.pop("snapshot")
        if seen is not None:
            file, log = Place(**seen["file"]), seen["log"] and Place(**seen["log"])
            seen = Snapshot(serial=seen["serial"], file=file, log=log)
        return cls(snapshot=seen, **fields)


class ProcessGoneError(Exception):
    """The pipe has ended in the midst of an answer."""


def batch_frame(batch: pa.RecordBatch) -> tuple[bytes, pa.Buffer]:
    """The head and the body of a frame."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    body = sink.getvalue()
    return _HEAD.pack(BATCH, body.size), body


def text_frame(kind: bytes, value: object) -> bytes:
    """A frame of JSON."""
    body = json.dumps(value).encode()
    return _HEAD.pack(kind, len(body)) + body


def read_frame(pipe: int, most: int) -> tuple[bytes, bytearray]:
    """The next frame. Raises ProcessGoneError, also for one of more than `most` bytes, which none of ours sends."""
    kind, length = _HEAD.unpack(_read(pipe, _HEAD.size))
    if length > most:
        raise ProcessGoneError
    return kind, _read(pipe, length)


def batch_of(body: bytearray) -> pa.RecordBatch:
    """The batch of a frame."""
    with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
        return reader.read_next_batch()


def failure(error: Exception) -> object:
    """What an error is, as JSON."""
    if isinstance(error, StoreLockedError):
        return {"text": str(error), "kind": "locked", "pid": error.pid}
    return {"text": str(error), "kind": "open" if isinstance(error, StoreOpenError) else "query"}


def error_of(body: bytearray) -> Exception:
    """What `failure` told."""
    told = json.loads(body)
    match told["kind"]:
        case "locked":
            return StoreLockedError(told["text"], told["pid"])
        case "open":
            return StoreOpenError(told["text"])
        case _:
            return QueryError(told["text"])


def _read(pipe: int, size: int) -> bytearray:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        got = os.readv(pipe, [rest])
        if not got:
            raise ProcessGoneError
        rest = rest[got:]
    return data
