"""StoreConfig: what the store needs to know. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024

ANSWER_BYTES = 256 * MIB
SPILL_BYTES = 4 * 1024 * MIB

ARROW_BYTES = 2 * 1024**3
"""In one Arrow array of text, whose offsets have 32 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryLimits:
    """Bytes that a query may take: DuckDB for tables, sorts and joins, and its answer, of which there are copies.
    `spill`: of the disk for what does not fit into them, and never more than a quarter of what is free there.
    `threads`: of DuckDB.
    """

    duckdb: int = 512 * MIB
    answer: int = ANSWER_BYTES
    spill: int = SPILL_BYTES
    threads: int = 1

    @property
    def growth(self) -> int:
        """By how many bytes its process may grow."""
        return self.duckdb + 2 * self.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """Where the results file is and how it is written.

    `memory`: bytes that DuckDB may take. `commit_interval_ms` is the longest that
    a write waits for others before its commit starts. `dedupe_capacity` is the number of keys that the
    filter is sized for: 40 bits each, so 50 MB for the default, whatever the table holds. `temp_dir` None:
    beside the file. `answer_bytes`: of one query's answer, which the only process that can write hands on.
    `query_processes`: how many queries run at once, each with `spill_bytes` of the disk.

    DuckDB keeps what is not checkpointed in its memory, and stops when that is full: hence `checkpoint_bytes` of
    log and `transaction_bytes` of rows at most. A checkpoint holds up commits for about 0.5 s at 8 M rows whatever
    the threshold, and a log of 200 MB is replayed in 1 s after a crash (both measured): hence no smaller ones.
    """

    path: Path
    threads: int = 1
    memory: int = 1024**3
    commit_rows: int = 5_000
    commit_interval_ms: float = 20.0
    dedupe: bool = True
    dedupe_capacity: int = 10_000_000
    checkpoint_at: int | None = None
    transaction_at: int | None = None
    answer_bytes: int = ANSWER_BYTES
    temp_dir: Path | None = None
    lock_wait_s: float = 10.0
    query_processes: int = 3
    spill_bytes: int = SPILL_BYTES

    @property
    def checkpoint_bytes(self) -> int:
        """The length of the write-ahead log that calls for a checkpoint: `checkpoint_at`, else `memory` / 4."""
        return self.memory // 4 if self.checkpoint_at is None else self.checkpoint_at

    @property
    def latest_checkpoint_bytes(self) -> int:
        """The length of the log at which a checkpoint waits for no query any more."""
        return self.checkpoint_bytes * 3 // 2

    @property
    def transaction_bytes(self) -> int:
        """Most bytes of rows in one transaction, beyond a single row: `transaction_at`, else `memory` / 16, and at most
        half of what an Arrow column of text can hold: the rows of a transaction are one table.
        """
        return min(self.memory // 16, ARROW_BYTES // 2) if self.transaction_at is None else self.transaction_at

    @property
    def query_limits(self) -> QueryLimits:
        """What each query may take: DuckDB half of what the store may."""
        return QueryLimits(
            duckdb=self.memory // 2, answer=self.answer_bytes, spill=self.spill_bytes, threads=self.threads
        )

    @property
    def side_dir(self) -> Path:
        """The folder with the sealed segments and the saved filter; it can be deleted while nothing runs."""
        return self.path.with_name(self.path.name + ".dedupe")

    @property
    def spill_dir(self) -> Path:
        """Where DuckDB spills: `temp_dir`, else a folder beside the file."""
        return self.temp_dir or self.path.with_name(self.path.name + ".tmp")
