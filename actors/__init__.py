"""What touches a message. A folder is a process, or what processes share.

publisher   PROCESS producer, also inside the router: confirmed, pipelined, packed
router      PROCESS ConsumerRouter: the queue in, batches out, outcomes settled
worker      PROCESS PoolWorker: the handler over a batch
store       PROCESS ResultStore: rows into DuckDB, before the ack
message     what crosses a process boundary (pure)
rabbitmq    what every AMQP client here shares
telemetry   metrics and spans
remote      what every actor here shares
testing     a handler without a broker
backoff     how long to wait before the next try
background  tasks that nobody awaits, with an owner that logs what failed
errors      the exceptions, one line each
printable   what strangers wrote, for people and as JSON
seconds     what counts as a duration
hiding      a password that is learnt later is hidden in the log, too
secret      a text that is never shown, such as a URL with its password, and what hides it in others

Its floors stand in pyproject.toml; `make lint` holds them. `actor.py` in a process's folder is its Ray shell.
"""

if __name__ == "actors":  # in a checkout this folder is on the path under its bare name, too: one class, one module
    raise ImportError("`from rabbitray import Job`; in rabbitray's checkout `actors` is imported as `rabbitray.actors`")
