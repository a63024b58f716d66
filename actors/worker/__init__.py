"""PROCESS PoolWorker: runs the handler over a batch. Ray's shell is `actor`; importing this package does not load it.

worker      takes a batch, gives its parts
batch       1. its jobs, which of them need no run, where it stands, its rows
handler     2. the user's code: found, loaded, called
outcome     3. what came of a call, right after it: JSON, or an error's verdict
fork_guard, exit_guard  a forked process, and a task that calls sys.exit, end where they leave the handler
meter, usage  measurements of this process: its jobs, its CPU and memory
actor       the Worker as a Ray actor

Floors, from the top: actor; worker; handler; the guards; outcome; batch; usage; meter. `make lint` holds them.
"""
