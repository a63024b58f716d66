"""PROCESS ResultStore: one DuckDB file, one writer, group commit, exact dedupe, live queries. The only door to duckdb.

store       1. the async front: calls in, answers out
commit      2. many calls, one transaction
dedupe      3. which keys have a result already
known       which keys have their result, while commits go on: asked before a run
schema      the tables of the file
migrations  a file of an earlier version becomes one of this version
file        opens it: lock, settings, hardening
file_watch  whether the file is still its file
guard       what a statement from outside may do
readers     the cursors that read, beside the one that writes
query       read-only statements, beside the commits
read_only   the same for a file that nothing writes
memory_limit  by how much the process may grow while they run
config      StoreConfig: file, memory, limits
answers     what a write is answered with
client      the store as the router's process sees it (Ray)
actor       Ray's shell; importing this package loads neither
"""

import os

# DuckDB's allocator (jemalloc) reads this once, when the library is loaded. By default it keeps the addresses of what
# was freed, and the kernel goes on counting them: `memory_limit` could not tell them from what is taken.
os.environ.setdefault("DUCKDB_JE_MALLOC_CONF", "retain:false")
