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
query       one read-only statement on a connection
queries     PROCESS query: statements of people, beside the commits, in processes that may be killed
read_only   our own statements, on a file that nothing writes
config      StoreConfig: file, memory, limits
answers     what a write is answered with
client      the store as the router's process sees it (Ray)
actor       Ray's shell; importing this package loads neither
"""
