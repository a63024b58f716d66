"""PROCESS PoolWorker: runs the handler over a batch. Ray's shell is `actor`; importing this package does not load it.

worker      takes a batch, gives its parts
decoding    1. parcels -> jobs, with their identity
handlers    2. the user's code, loaded by name: function, coroutine, class, batch
executor    3. runs the jobs: threads, tasks, time-outs
fork_guard  ends a forked process where it leaves the handler
batch_run   one batch while it runs
verdict     4. an exception -> transient or permanent -> retry or dead
tracebacks  where in the user's code a job failed or stands
results     5. what was returned -> JSON -> one Arrow table
meter       measurements of this process
usage       CPU and memory of this process
actor       the Worker as a Ray actor
"""
