"""PROCESS query: statements of people run in processes of their own, which may be killed: at a deadline, by a limit of
memory, or because the store needs its file. The store's process only hands them on.

front      1. the async front: which process a question gets, until when, and what becomes of it
snapshots  2. what of the file may be read now, and who reads it
process    3. one such process as its owner sees it: started, asked, killed
frames     4. what goes through its pipes
child      5. what it does
file       the front of a command that reads a file which nothing writes
snapshot   what the file and its log held at one commit
snapshot_files  the same as DuckDB reads it, without a lock
"""
