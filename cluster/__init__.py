"""What people run: the command line, and the driver that holds a pool together.

cli        the program: options, tables, keys
commands   one file a command, imported when it is asked for
settings   every setting, from the command line, the environment, rabbitray.toml
driver     PROCESS driver: `rabbitray run`
submit     a Ray job of a pool, for a command
operate    looks at a pool, for commands
results    reads what the store wrote, for commands
publish    publishes from a file, for a command
telemetry  OpenTelemetry's SDK, logs
broker     a private RabbitMQ node
demo       the demo's handler and load
deploy     Grafana, Prometheus, KubeRay, RabbitMQ, installation
"""

if __name__ == "cluster":  # see `actors`
    raise ImportError("`python -m rabbitray`; in rabbitray's checkout `cluster` is imported as `rabbitray.cluster`")
