"""The result store: one DuckDB file, one writer, group commit, exact dedupe, live queries. The only door to
duckdb.

In the order of a write: `store` (async front), `group` (many writes, one commit), `core` (the commit
thread), `identity`, `dedupe` (with `bloom` and `segment`), `commit` (the one permitted transaction). Beside
it: `file` (lock, hardening), `schema`, `loading` (start and restart), `records` (dead letters, decisions,
control, epochs), `query`, `export`.
"""

from actors.store.answers import Answer, StoreStats
from actors.store.config import StoreConfig
from actors.store.export import ParquetFile, write_parquet
from actors.store.file import StoreLockedError
from actors.store.query import read_only_query, read_only_stream, truncated
from actors.store.store import ResultStore

__all__ = [
    "Answer",
    "ParquetFile",
    "ResultStore",
    "StoreConfig",
    "StoreLockedError",
    "StoreStats",
    "read_only_query",
    "read_only_stream",
    "truncated",
    "write_parquet",
]
