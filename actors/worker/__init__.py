"""PROCESS PoolWorker: runs the handler over a batch. Ray's shell is `actor`; importing this package does not load it.

worker      takes a batch, gives its parts
decoding    1. parcels -> jobs, with their identity
finished    which of them have their result already: those are not run
handlers, users_modules  2. the user's code, loaded by name; where a module that is missing lies
shape       which style it is: function, coroutine, class, batch; what cannot be called with a job is refused
executor, handler_thread  3. run the jobs of a batch: in a thread, or in tasks in slots
call        4. one call: its context, its time-out
fork_guard, exit_guard  a forked process, and a task that calls sys.exit, end where they leave the handler
batch_run   one batch while it runs
outcome     5. what came of a call, right after it: verdict, error_text and results
verdict     an exception -> transient or permanent -> retry or dead
error_text  an exception in words
tracebacks  where in the user's code a job failed or stands
results     what was returned -> JSON; the JSON of a part -> one Arrow table
meter, usage  measurements of this process: its jobs, its CPU and memory
actor       the Worker as a Ray actor
"""
