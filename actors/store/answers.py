"""What the store is asked to write and what it answers. Pure, small.

A write and its answer cross between two processes as one buffer each: `bytes` is all that Ray does not pickle.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pyarrow as pa

from rabbitray.actors.message.reply import FailedRun


class Write(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What goes beside the rows of one write. `queue`: of the `failed_keys`; `span`: of their batch, if traced."""

    epoch: int
    queue: str
    span: str | None = None
    failed_keys: tuple[str, ...] = ()
    failures: tuple[FailedRun, ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What became of each row of one write; only this makes an outcome final.

    `committed`: rows now on disk. `duplicates`: indices of rows whose (queue, key) already had a result,
    also earlier in the same write; `conflicts` counts those of them that are another message than the one that has it.
    `rejected`: (index, reason) of rows that the table cannot hold.
    `already`: those of the `failed_keys` that have a result, so that a retry or dead letter of them must
    not be published.
    """

    committed: int = 0
    duplicates: tuple[int, ...] = ()
    conflicts: int = 0
    rejected: tuple[tuple[int, str], ...] = ()
    already: tuple[str, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_writes = msgspec.msgpack.Decoder(Write)
_answers = msgspec.msgpack.Decoder(Answer)


def encode(message: Write | Answer) -> bytes:
    """One of them as one buffer."""
    return _encoder.encode(message)


def decode_write(buffer: bytes) -> Write:
    """The inverse of `encode`."""
    return _writes.decode(buffer)


def decode_answer(buffer: bytes) -> Answer:
    """The inverse of `encode`."""
    return _answers.decode(buffer)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """Counters since this store opened, except `rows` and `bytes`, which describe the file.

    `rows`: rows ever committed to `results` (the next `seq`). `conflicts`: duplicates that carried another payload,
    message_type or user_id than the row that won. `commit_s`: seconds spent in commits. `filter_fill`:
    sealed keys / capacity, above 1 it gets slower, never wrong. `bytes`: file and write-ahead log.
    `paused`: why nothing can be committed, "" when all is well.
    """

    rows: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    commits: int = 0
    commit_s: float = 0.0
    filter_fill: float = 0.0
    filter_bytes: int = 0
    bytes: int = 0
    paused: str = ""


@dataclass(slots=True, kw_only=True)
class Call:
    """One write on its way to the commit thread; `offset` is where `rows` starts in the caller's table.

    `failures`: for the table of that name.
    """

    epoch: int
    rows: pa.Table
    failed_keys: tuple[str, ...] = ()
    queue: str | None = None
    offset: int = 0
    failures: tuple[FailedRun, ...] = ()


@dataclass(slots=True, kw_only=True)
class AnswerBuilder:
    """The answer to one call while it is being built."""

    committed: int = 0
    duplicates: list[int] = field(default_factory=list)
    conflicts: int = 0
    rejected: list[tuple[int, str]] = field(default_factory=list)
    already: tuple[str, ...] = ()

    def answer(self) -> Answer:
        """The finished answer, indices ascending."""
        return Answer(
            committed=self.committed,
            duplicates=tuple(sorted(self.duplicates)),
            conflicts=self.conflicts,
            rejected=tuple(sorted(self.rejected)),
            already=self.already,
        )
