"""The commands of `rabbitray`, a file each, imported when it is asked for; `cluster/cli/app.py` lists them.

One that has commands of its own is a folder. None imports another.

run                          PROCESS driver: works a queue
submit                       run as a job on a Ray cluster, submitted from here
drain, pause, resume, scale  steer a running pool
status, top                  look at a running pool
publish                      jobs into the queue
query, export, report        read the results
dlq, trace                   dead letters; one message's story
plan, replay                 how many workers a load needs; the policy over a load
check, config                what is missing; the settings and their origin
demo, broker                 the demo; a private RabbitMQ node
"""
